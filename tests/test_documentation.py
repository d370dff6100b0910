"""What the documents show can be typed: every `pairstill` command is read by its verb's own parser, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pairstill.cli.app import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SCRIPTS = sorted(ROOT.glob("recipes/**/run.sh"))
GROUP: Any = typer.main.get_command(app)


def commands(text: str) -> Iterator[list[str]]:
    """Words of every `pairstill` command of a shell text, without what follows in the shell's own language."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;(?=\s)|(?<!\S)\|(?!\S)", line):
            found = re.search(r"(?:^|[\s(])(pairstill\s.*)", part)
            if found is None or line.lstrip().startswith("#"):
                continue
            try:
                words = shlex.split(found[1], comments=True)
            except ValueError:
                pytest.fail(f"the shell could not read: {found[1]}")
            yield words[1 : next((place for place, one in enumerate(words) if re.match(r"\d?[<>]|&$", one)), None)]


def verb_of(words: list[str]) -> tuple[Any, list[str]]:
    """The verb that the first words name, and the words after it."""
    verb = GROUP
    while words and words[0] in getattr(verb, "commands", {}):
        verb, words = verb.commands[words[0]], words[1:]
    assert not (hasattr(verb, "commands") and words and not words[0].startswith("-")), f"no verb {words[0]!r}"
    return verb, words


def read(words: list[str]) -> None:
    """Let the verb's own parser read a command; of a shortened one the names of its options alone."""
    verb, rest = verb_of(words)
    if "..." in rest:
        check_options(verb, rest)
    elif not hasattr(verb, "commands"):
        with verb.make_context("verb", rest):
            return


def check_options(verb: Any, words: list[str]) -> None:
    known = {name for one in verb.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    unknown = {one.partition("=")[0] for one in words if re.match(r"--\w", one)} - known
    assert not unknown, unknown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_document_are_read(document: Path) -> None:
    for block in re.findall(r"```(?:sh|bash|shell)\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        for words in commands(block):
            try:
                read(words)
            except Exception as error:
                pytest.fail(f"{document.relative_to(ROOT)}: pairstill {shlex.join(words)}: {error!r} {error}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name)
def test_options_of_a_recipe_exist(script: Path) -> None:
    found = list(commands(script.read_text(encoding="utf-8")))
    assert found
    for words in found:
        check_options(*verb_of(words))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_document_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        place, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        found = document if not place else (document.parent / place)
        assert found.exists(), f"{document.relative_to(ROOT)}: {target}"
        if heading:
            body = re.sub(r"```.*?```", "", found.read_text(encoding="utf-8"), flags=re.DOTALL)
            headings = re.findall(r"^#+ (.*)$", body, re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
            assert heading in anchors, f"{document.relative_to(ROOT)}: {target}; there are {anchors}"
