from __future__ import annotations

from pathlib import Path

import pytest

from mining_samples import write_sources
from pairstill.errors import InputError
from pairstill.mining import python_source_pairs
from pairstill.mining.python_files import installed_sources


def test_a_folder_gives_pairs_of_public_code_alone(tmp_path: Path) -> None:
    found = python_source_pairs(write_sources(tmp_path))
    names = found.tuples.column("passage").to_pylist()
    assert sorted(names) == sorted(["shop", *(f"shop:helper_{number}" for number in range(12))])
    assert not any("never be read" in text for text in found.texts(0))
    assert found.provenance["counts"]["files_not_parsed"] == 2
    assert set(found.tuples.column("label").to_pylist()) == {1.0}
    assert set(found.tuples.column("split").to_pylist()) <= {"train", "valid", "test"}


def test_the_same_files_elsewhere_give_the_same_set(tmp_path: Path) -> None:
    first, second = (python_source_pairs(write_sources(tmp_path / name)) for name in "ab")
    assert first.fingerprint == second.fingerprint


def test_a_cap_chooses_by_hash_and_is_part_of_the_whole(tmp_path: Path) -> None:
    folder = write_sources(tmp_path)
    whole = set(python_source_pairs(folder).texts(0))
    some = python_source_pairs(folder, queries=5)
    assert len(some.texts(0)) == 5
    assert set(some.texts(0)) < whole
    assert set(python_source_pairs(folder, queries=5, seed=1).texts(0)) != set(some.texts(0))


def test_equal_summaries_become_one_query_and_vague_ones_go(tmp_path: Path) -> None:
    body = 'def f{n}(x):\n    """{summary}.\n\n    A text of its own, number {n}, with more than enough words to be kept as a passage.\n    """\n    return x + {n}\n'
    text = "".join(body.format(n=n, summary="Add a number to another one") for n in range(3))
    text += "".join(body.format(n=n, summary="Do what the name says here") for n in range(3, 8))
    (tmp_path / "m.py").write_text(text)
    found = python_source_pairs(tmp_path)
    assert found.texts(0) == ["Add a number to another one"]
    assert len(found) == 3
    assert found.provenance["counts"]["vague_queries_left_out"] == 1


def test_equal_passages_belong_to_the_first(tmp_path: Path) -> None:
    body = 'class C{n}:\n    """{summary}."""\n    def go(self, one, two, three, four, five, six, seven, eight, nine): return 1\n'
    for n, summary in enumerate(["Drive the first thing forward", "Push a second thing back"]):
        (tmp_path / f"m{n}.py").write_text(body.format(n=0, summary=summary))
    found = python_source_pairs(tmp_path)
    assert found.texts(0) == ["Drive the first thing forward"]
    assert found.provenance["counts"]["repeated_passages_left_out"] == 1


def test_installed_sources_are_sorted_versioned_and_public() -> None:
    sources = installed_sources()
    modules = [file.module for file in sources.files]
    assert modules == sorted(modules)
    assert {"argparse", "json.decoder", "numpy", "typer.main"} <= set(modules)
    assert {"python", "numpy", "typer"} <= set(sources.versions)
    assert not any(name.split(".")[0] == "pairstill" for name in modules)
    assert not any(part.startswith("_") or part == "tests" for name in modules for part in name.split("."))


@pytest.mark.parametrize(
    ("make", "queries", "message"),
    [
        (lambda folder: folder / "absent", None, "the folder of Python sources does not exist"),
        (lambda folder: folder, None, "the folder has no Python sources"),
        (
            lambda folder: (folder / "a.py").write_text("x = 1\n") and folder,
            None,
            "no documented public code was found",
        ),
        (write_sources, 500, "13 queries were found, 500 were asked for"),
        (lambda folder: folder, 0, "0 queries were asked for"),
    ],
)
def test_errors(tmp_path: Path, make: object, queries: int | None, message: str) -> None:
    folder = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        python_source_pairs(folder, queries=queries)
