"""The built-in corpus: summary line -> documented text and source, mined from Python sources with `ast`."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from pairstill.errors import InputError
from pairstill.tuples import Collection, Field, Labels, TupleSet

SKIPPED_FOLDERS = {
    "test", "tests", "testing", "_vendor", "vendor", "vendored", "externals", "site-packages", "dist-packages", "__pycache__",
    "lib2to3", "idlelib", "turtledemo", "node_modules",
}  # fmt: skip
LARGEST_FILE_BYTES = 600_000
LARGEST_PACKAGE_FILES = 300
PROSE = re.compile(r"[A-Za-z][a-z]+")
LEAK_WORDS = 5


@dataclass(frozen=True)
class DocumentedObject:
    """A documented function, class, method or module.

    Attributes:
        name: Such as `json.dumps`.
        summary: First line of its docstring, a sentence.
        text: The rest of the docstring and the source without it, the summary's words removed where they repeat.
    """

    name: str
    summary: str
    text: str


def python_source_pairs(source: str = "installed", *, queries: int | None = None, seed: int = 0) -> TupleSet:
    """Pairs of a summary line and what it summarises, split 80/10/10 by a hash of the query; positives only.

    Deterministic for given versions: files in sorted order, duplicates to the first, a cap chosen by hash.

    Args:
        source: `installed` for the standard library and the packages installed beside it, or a folder of Python sources.
        queries: Keep so many, chosen by hash; None keeps all.
        seed: Of the hash.

    Raises:
        InputError: The folder is missing or has no documented Python source, or has fewer queries than asked for.
    """
    roots, versions = _installed_roots() if source == "installed" else _own_root(Path(source))
    by_summary: dict[str, DocumentedObject] = {}
    seen_texts: set[str] = set()
    files = 0
    for root, package in roots:
        for path in _files(root):
            files += 1
            for found in documented_objects(path, _module_name(path, root, package)):
                key = " ".join(PROSE.findall(found.summary.lower()))
                body = " ".join(found.text.split())
                if key and key not in by_summary and body not in seen_texts:
                    by_summary[key] = found
                    seen_texts.add(body)
    objects = sorted(by_summary.values(), key=lambda one: _hash(f"{seed}:{one.name}:{one.summary}"))
    if not objects:
        raise InputError(
            "no documented function, class or module was found", file=None if source == "installed" else source,
            expected="Python sources with docstrings",
        )  # fmt: skip
    if queries is not None:
        if len(objects) < queries:
            raise InputError(f"there are {len(objects)} queries", expected=f"at least the {queries} that are asked for")
        objects = objects[:queries]
    objects.sort(key=lambda one: (one.name, one.summary))
    return _tuple_set(
        objects,
        {"source": source, "files": files, "versions": versions, "seed": seed, "python": sys.version.split()[0]},
    )


def _files(root: Path) -> list[Path]:
    """The files to read of a package, sorted; of a large one so many as are enough, chosen by hash."""
    found = [path for path in (root.rglob("*.py") if root.is_dir() else [root]) if not _skipped(path, root)]
    found.sort(key=lambda path: _hash(str(path.relative_to(root.parent))))
    return sorted(found[:LARGEST_PACKAGE_FILES])


def documented_objects(path: Path, module: str) -> Iterator[DocumentedObject]:
    """Documented objects of one file, in source order; a file that is not valid Python gives none."""
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return
    lines = source.splitlines()
    for node, name in _public_nodes(tree, module):
        docstring = ast.get_docstring(node)
        if not docstring:
            continue
        summary, rest = _summary(docstring)
        if summary is None:
            continue
        text = _without_leaks(f"{rest}\n{_body(node, lines)}".strip(), summary)
        if len(PROSE.findall(text)) >= 12:
            yield DocumentedObject(name, summary, text)


def _public_nodes(
    tree: ast.Module, module: str
) -> Iterator[tuple[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    yield tree, module
    stack: list[tuple[ast.AST, str]] = [(tree, module)]
    while stack:
        parent, prefix = stack.pop()
        for node in getattr(parent, "body", []):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                yield node, f"{prefix}.{node.name}"
                if isinstance(node, ast.ClassDef):
                    stack.append((node, f"{prefix}.{node.name}"))


def _summary(docstring: str) -> tuple[str | None, str]:
    """The first paragraph as one line where it is a sentence of 4 to 30 words of prose, and the rest."""
    first, _, rest = docstring.strip().partition("\n\n")
    line = " ".join(first.split())
    line = re.sub(r":[a-z:]+:`~?([^`<]*)[^`]*`", r"\1", line).replace("`", "")
    sentence = re.match(r"(.+?[a-z)\]][.!?])(\s+[A-Z].*)?$", line)
    if sentence and sentence.group(2):
        line, rest = sentence.group(1), f"{sentence.group(2).strip()}\n\n{rest}"
    words = line.split()
    prose = PROSE.findall(line)
    if not 4 <= len(words) <= 30 or len(prose) < 0.7 * len(words) or line.startswith((">>>", "..", "@", "Copyright")):
        return None, rest
    return line, rest


def _body(node: ast.AST, lines: list[str]) -> str:
    """Source of a definition without its docstring, decorators and nested documentation; little for a module or class."""
    body = list(getattr(node, "body", []))
    if (
        body
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    ):
        body = body[1:]
    if isinstance(node, ast.Module):
        names = [
            one.name for one in body if isinstance(one, ast.ClassDef | ast.FunctionDef) and not one.name.startswith("_")
        ]
        return "defines " + ", ".join(names[:30]) if names else ""
    header = lines[node.lineno - 1].strip()  # type: ignore[attr-defined]
    if isinstance(node, ast.ClassDef):
        names = [one.name for one in body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
        return f"{header}\nmethods {', '.join(names[:30])}"
    if not body:
        return header
    text = "\n".join(lines[body[0].lineno - 1 : min(body[-1].end_lineno or body[-1].lineno, body[0].lineno + 40)])
    return f"{header}\n{text}"


def _without_leaks(text: str, summary: str) -> str:
    """Remove repeats of the summary: runs of `LEAK_WORDS` words that also stand in it."""
    words = [one.lower() for one in PROSE.findall(summary)]
    size = min(LEAK_WORDS, len(words))
    runs = {tuple(words[place : place + size]) for place in range(len(words) - size + 1)}
    found = [(one.start(), one.end(), one.group().lower()) for one in PROSE.finditer(text)]
    covered = [False] * len(found)
    for place in range(len(found) - size + 1):
        if tuple(word for _, _, word in found[place : place + size]) in runs:
            covered[place : place + size] = [True] * size
    out, last = [], 0
    for (start, end, _), leak in zip(found, covered, strict=True):
        if leak:
            out.append(text[last:start])
            last = end
    out.append(text[last:])
    return re.sub(r"[ \t]+", " ", "".join(out)).strip()


def _installed_roots() -> tuple[list[tuple[Path, str]], dict[str, str]]:
    standard = Path(sysconfig.get_paths()["stdlib"])
    roots = [(path, "") for path in sorted(standard.iterdir()) if _importable(path)]
    versions: dict[str, str] = {}
    top: dict[str, Path] = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name in ("pairstill", "pip", "setuptools") or not name:
            continue
        for file in distribution.files or []:
            if file.suffix == ".py" and ".." not in file.parts and not file.parts[0].endswith(".dist-info"):
                top.setdefault(file.parts[0], Path(str(distribution.locate_file(file.parts[0]))))
                versions[name] = distribution.version
    roots += [(path, "") for name, path in sorted(top.items()) if _importable(path)]
    return roots, dict(sorted(versions.items()))


def _own_root(folder: Path) -> tuple[list[tuple[Path, str]], dict[str, str]]:
    if not folder.is_dir():
        raise InputError(
            "the folder does not exist", file=folder, expected="a folder of Python sources, or `installed`"
        )
    return [(folder, folder.name)], {}


def _importable(path: Path) -> bool:
    name = path.name
    if name.startswith(("_", ".")) or name in SKIPPED_FOLDERS:
        return False
    return (path.is_dir() and name.isidentifier()) or path.suffix == ".py"


def _skipped(path: Path, root: Path) -> bool:
    inside = path.relative_to(root).parts if root.is_dir() else (path.name,)
    names = [part.removesuffix(".py") for part in inside]
    if any(part in SKIPPED_FOLDERS or (part.startswith("_") and part != "__init__") for part in names):
        return True
    if any(name.startswith(("test_", "conftest")) or name.endswith("_test") for name in names):
        return True
    if "models" in inside[:-2] and _hash(str(Path(*inside[:-1]))) % 8:
        return True
    return path.stat().st_size > LARGEST_FILE_BYTES


def _module_name(path: Path, root: Path, package: str) -> str:
    base = root.parent if root.is_dir() and not package else root
    parts = list(path.relative_to(base).with_suffix("").parts) if root.is_dir() else [path.stem]
    if parts and parts[-1] == "__init__":
        parts.pop()
    return ".".join(([package] if package else []) + parts)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _tuple_set(objects: list[DocumentedObject], provenance: dict[str, object]) -> TupleSet:
    query_ids = [f"q{_hash(one.summary):016x}" for one in objects]
    passage_ids = [f"p{_hash(one.name + one.text):016x}" for one in objects]
    splits = ("train",) * 8 + ("valid", "test")
    tuples = pa.table(
        {
            "query": pa.array(query_ids),
            "passage": pa.array(passage_ids),
            "label": pa.array([1.0] * len(objects), pa.float64()),
            "weight": pa.nulls(len(objects), pa.float64()),
            "group": pa.array(query_ids),
            "split": pa.array([splits[_hash("split" + one) % 10] for one in query_ids]),
        }
    )
    return TupleSet(
        fields=(Field("query", "query", columns=("summary",)), Field("passage", "passage", columns=("text",))),
        labels=Labels("binary"),
        collections={
            "query": Collection(pa.array(query_ids), pa.array([one.summary for one in objects])),
            "passage": Collection(pa.array(passage_ids), pa.array([one.text for one in objects])),
        },
        tuples=tuples,
        provenance={"python_sources": provenance},
    )
