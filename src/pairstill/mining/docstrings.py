"""From the source of one module to pairs of a summary line and the text it sums up."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORD = re.compile(r"[A-Za-z0-9]+")
ROLE = re.compile(r":[a-z:]+:`~?!?([^`<]*?)(?:\s*<[^`>]*>)?`")
SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]'\"])\.(?=\s+[A-Z`*:]|\s*$)")
NOT_PROSE = re.compile(r">>>|::|==|->|https?://|\w\(|[=|{}<>\\@#]|\.\. |^[:*\-\d(\[]")
NOTICE = re.compile(
    r"(?i)\b(deprecated|copyright|licen[cs]ed?|todo|alias (?:for|of)|see (?:also|the documentation|docs))\b"
)
MIN_WORDS, MAX_WORDS = 4, 30
MIN_PASSAGE_WORDS = 12
MAX_PASSAGE_CHARACTERS = 2_000
LEAK_WORDS = 5


@dataclass(frozen=True)
class DocumentedPair:
    """A summary line and the documented text it belongs to.

    Attributes:
        name: `module:qualified.name`; the bare module for its own docstring.
        kind: module, class, function or method.
        query: The summary, on one line.
        passage: The rest of the docstring and the source, without the summary.
    """

    name: str
    kind: str
    query: str
    passage: str


def documented_pairs(path: Path, module: str) -> list[DocumentedPair] | None:
    """The pairs of one file, in source order; None where it is no Python of this version or no UTF-8.

    A file without triple quotes has no docstring worth reading and is not parsed.
    """
    try:
        source = path.read_text(encoding="utf-8")
        if '"""' not in source and "'''" not in source:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = source.splitlines()
    return [pair for node, name, kind in _public_nodes(tree, module) if (pair := _pair(node, name, kind, lines))]


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public_nodes(tree: ast.Module, module: str) -> Iterator[tuple[Documented, str, str]]:
    yield tree, module, "module"
    stack: list[tuple[ast.Module | ast.ClassDef, str]] = [(tree, "")]
    while stack:
        parent, prefix = stack.pop()
        for node in parent.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            name = f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                stack.append((node, f"{name}."))
                yield node, f"{module}:{name}", "class"
            else:
                yield node, f"{module}:{name}", "method" if prefix else "function"


def _pair(node: Documented, name: str, kind: str, lines: list[str]) -> DocumentedPair | None:
    first = node.body[0] if node.body else None
    if not (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    ):
        return None
    query, rest = split_summary(inspect.cleandoc(first.value.value))
    if not is_question_like(query):
        return None
    code = "" if isinstance(node, ast.Module) else _source(node, first, lines)
    passage = without_leaks(query, tidy(f"{rest}\n{code}"[: 2 * MAX_PASSAGE_CHARACTERS]))[
        :MAX_PASSAGE_CHARACTERS
    ].strip()
    if len(WORD.findall(passage)) < MIN_PASSAGE_WORDS:
        return None
    return DocumentedPair(name, kind, query, passage)


def _source(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, docstring: ast.Expr, lines: list[str]) -> str:
    """The lines of a definition without its docstring; long ones are cut before they are joined."""
    end = node.end_lineno or node.lineno
    kept = lines[node.lineno - 1 : docstring.lineno - 1] + lines[docstring.end_lineno or docstring.lineno : end][:60]
    return inspect.cleandoc("\n" + "\n".join(kept)) if kept else ""


def split_summary(docstring: str) -> tuple[str, str]:
    """The first sentence of a docstring's first paragraph, on one line and without markup, and all that follows."""
    paragraph, _, rest = docstring.strip().partition("\n\n")
    text = " ".join(paragraph.split())
    end = SENTENCE_END.search(text)
    first, after = (text[: end.start()], text[end.end() :]) if end else (text, "")
    return plain(first).rstrip(" .:;"), f"{after.strip()}\n{rest}".strip()


def plain(text: str) -> str:
    """Without reStructuredText roles and emphasis."""
    return " ".join(ROLE.sub(r"\1", text).replace("`", "").replace("**", "").split())


def is_question_like(summary: str) -> bool:
    """Whether a summary is a line of prose that someone could have asked for."""
    words = summary.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or NOT_PROSE.search(summary) or NOTICE.search(summary):
        return False
    alphabetic = sum(word.strip("\"'.,;()").isalpha() for word in words)
    return summary.isascii() and alphabetic >= max(MIN_WORDS, 0.75 * len(words))


def without_leaks(query: str, passage: str) -> str:
    """Cut out of a passage every run of words that repeats the query: any `LEAK_WORDS` words of it in a row, or all of it.

    Case, punctuation and underscores do not matter, so `def convert_image_to_tensor` is cut where the query says
    "Convert image to tensor".
    """
    wanted = [word.lower() for word in WORD.findall(query)]
    size = min(LEAK_WORDS, len(wanted))
    if not size:
        return passage
    runs = {tuple(wanted[start : start + size]) for start in range(len(wanted) - size + 1)}
    found = list(WORD.finditer(passage))
    words = [one.group().lower() for one in found]
    leaking = [False] * len(words)
    for start in range(len(words) - size + 1):
        if tuple(words[start : start + size]) in runs:
            leaking[start : start + size] = [True] * size
    if not any(leaking):
        return passage
    pieces, position = [], 0
    for number, one in enumerate(found):
        if not leaking[number]:
            continue
        before = number > 0 and leaking[number - 1]
        pieces.append(" " if before else passage[position : one.start()])
        position = one.end()
    return tidy("".join(pieces) + passage[position:])


def tidy(text: str) -> str:
    """Without markup that carries no meaning, blank lines and trailing blanks."""
    text = ROLE.sub(r"\1", text).replace("``", "").replace("`", "")
    kept = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in kept if line.strip(" -=~^*\"'.,:;"))
