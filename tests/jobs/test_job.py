from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json, write_text
from pairstill.jobs import Job, Receipt, Shard, split_rows


def count_rows(shard: Shard, path: Path) -> Mapping[str, Any]:
    write_text(path, "".join(f"{row}\n" for row in range(shard.start, shard.stop)))
    return {"first": shard.start}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.txt"))}


@given(rows=st.integers(0, 200), size=st.integers(1, 50))
def test_shards_cover_every_row_once(rows: int, size: int) -> None:
    shards = split_rows(rows, size)
    assert [row for shard in shards for row in range(shard.start, shard.stop)] == list(range(rows))
    assert all(0 < len(shard) <= size for shard in shards)
    assert len({shard.name for shard in shards}) == len(shards)


def test_shards_of_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="rows per shard is 0"):
        split_rows(5, 0)


def test_a_job_writes_outputs_receipts_and_a_summary(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", "count", {"step": 1}, ".txt", precision="float32")
    calls: list[tuple[int, int]] = []
    receipts = job.run(split_rows(5, 2), count_rows, lambda done, total: calls.append((done, total)))
    assert calls == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert [one.details["first"] for one in receipts] == [0, 2, 4]
    for receipt in receipts:
        receipt.check(job.folder)
        assert Receipt.load(job.folder / "receipts" / f"{receipt.shard.name}.json") == receipt
        assert receipt.machine["usable_cores"] >= 1
    summary = read_json(job.folder / "summary.json")
    assert (summary["rows"], summary["shards"], summary["precision"]) == (5, 3, "float32")
    assert len(summary["machines"]) == 1


@settings(max_examples=30, deadline=None)
@given(data=st.data(), rows=st.integers(1, 40), size=st.integers(1, 9))
def test_interrupted_at_any_point_it_ends_with_the_same_bytes(data: st.DataObject, rows: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        undisturbed, folder = Path(name) / "undisturbed", Path(name) / "disturbed"
        shards = split_rows(rows, size)
        Job(undisturbed, "count", {}, ".txt").run(shards, count_rows)
        done: Counter[str] = Counter()
        for _ in range(data.draw(st.integers(0, 4))):
            left, moment = (
                data.draw(st.integers(0, len(shards))),
                data.draw(st.sampled_from(["before", "half", "after"])),
            )

            def breaking(shard: Shard, path: Path, left: int = left, moment: str = moment) -> Mapping[str, Any]:
                nonlocal remaining
                if remaining == 0 and moment == "before":
                    raise KeyboardInterrupt
                if remaining == 0 and moment == "half":
                    (path.parent / f".{path.name}.abc.tmp").write_text("half")
                    raise KeyboardInterrupt
                details = count_rows(shard, path)
                if remaining == 0:
                    raise KeyboardInterrupt  # the output is there, its receipt is not
                remaining -= 1
                done[shard.name] += 1
                return details

            remaining = left
            with contextlib.suppress(KeyboardInterrupt):
                Job(folder, "count", {}, ".txt").run(shards, breaking)

        def last(shard: Shard, path: Path) -> Mapping[str, Any]:
            done[shard.name] += 1
            return count_rows(shard, path)

        Job(folder, "count", {}, ".txt").run(shards, last)
        assert contents(folder) == contents(undisturbed)
        assert all(count == 1 for count in done.values())
        assert len(done) == len(shards)
        assert not list(folder.glob(".*.tmp"))


def test_a_truncated_or_missing_output_is_done_again(tmp_path: Path) -> None:
    shards = split_rows(6, 2)
    job = Job(tmp_path, "count", {}, ".txt")
    job.run(shards, count_rows)
    whole = contents(tmp_path)
    (tmp_path / "shard-00000.txt").write_text("")
    (tmp_path / "shard-00001.txt").unlink()
    done: list[str] = []

    def again(shard: Shard, path: Path) -> Mapping[str, Any]:
        done.append(shard.name)
        return count_rows(shard, path)

    job.run(shards, again)
    assert done == ["shard-00000", "shard-00001"]
    assert contents(tmp_path) == whole


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    Job(tmp_path, "count", {"max_length": 128, "teacher": "a", "gone": 1}, ".txt").run([], count_rows)
    with pytest.raises(ArtefactError) as caught:
        Job(tmp_path, "count", {"max_length": 64, "teacher": "a", "new": "b"}, ".txt").run([], count_rows)
    message = str(caught.value)
    assert "max_length was 128 and is 64" in message
    assert "gone was 1 and is not set" in message
    assert "new was not set and is 'b'" in message
    assert "teacher" not in message


def test_many_differences_are_counted(tmp_path: Path) -> None:
    Job(tmp_path, "count", {str(number): "x" * 100 for number in range(5)}, ".txt").run([], count_rows)
    with pytest.raises(ArtefactError, match="and 2 more") as caught:
        Job(tmp_path, "count", {}, ".txt").run([], count_rows)
    assert "..." in str(caught.value)


def test_another_job_in_the_folder_is_refused(tmp_path: Path) -> None:
    Job(tmp_path, "annotate", {}, ".txt").run([], count_rows)
    with pytest.raises(ArtefactError, match="job was 'annotate' and is 'encode'"):
        Job(tmp_path, "encode", {}, ".txt").run([], count_rows)


def test_a_foreign_or_newer_job_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(ArtefactError, match="no job of pairstill"):
        Job(tmp_path, "count", {}, ".txt").run([], count_rows)
    (tmp_path / "job.json").write_text(json.dumps({"format": "pairstill/job", "version": 2}))
    with pytest.raises(ArtefactError, match="Upgrade pairstill"):
        Job(tmp_path, "count", {}, ".txt").run([], count_rows)


def test_other_shards_under_the_same_settings_are_refused(tmp_path: Path) -> None:
    job = Job(tmp_path, "count", {}, ".txt")
    job.run(split_rows(6, 3), count_rows)
    with pytest.raises(ArtefactError, match="the rows 0 to 3"):
        job.run(split_rows(6, 2), count_rows)


def test_shards_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same name"):
        Job(tmp_path, "count", {}, ".txt").run([Shard("a", 0, 1), Shard("a", 1, 2)], count_rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no receipt"),
        ('{"format": "pairstill/receipt", "version": 9}', "at most 1"),
        ('{"format": "pairstill/receipt", "version": 1}', "lacks a field"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_receipt_is_named(tmp_path: Path, text: str, message: str) -> None:
    job = Job(tmp_path, "count", {}, ".txt")
    job.run(split_rows(2, 2), count_rows)
    (tmp_path / "receipts" / "shard-00000.json").write_text(text)
    with pytest.raises(ArtefactError, match=message) as caught:
        job.run(split_rows(2, 2), count_rows)
    assert "shard-00000.json" in str(caught.value)


def test_a_damaged_output_is_found_by_its_checksum(tmp_path: Path) -> None:
    [receipt] = Job(tmp_path, "count", {}, ".txt").run(split_rows(2, 2), count_rows)
    path = tmp_path / receipt.file
    path.write_text("9\n1\n")
    with pytest.raises(ArtefactError, match="damaged"):
        receipt.check(tmp_path)
    path.write_text("0\n")
    with pytest.raises(ArtefactError, match=r"the shard has 2 bytes. Expected: 4 bytes"):
        receipt.check(tmp_path)
    path.unlink()
    with pytest.raises(ArtefactError, match="missing"):
        receipt.check(tmp_path)


def test_a_shard_function_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="wrote no"):
        Job(tmp_path, "count", {}, ".txt").run(split_rows(1, 1), lambda shard, path: {})


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_job import count_rows
from pairstill.jobs import Job, split_rows
def slow(shard, path):
    time.sleep(0.02)
    return count_rows(shard, path)
print("ready", flush=True)
Job(sys.argv[1], "count", {{}}, ".txt").run(split_rows(60, 2), slow)
"""


def start_child(folder: Path) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent))
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def wait_for_receipts(folder: Path, count: int) -> None:
    for _ in range(1000):
        if len(list((folder / "receipts").glob("shard-*.json"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the child wrote no receipts")


def test_a_job_runs_while_its_folder_is_held_and_nobody_else_does(tmp_path: Path) -> None:
    job, other = (Job(tmp_path, "count", {}, ".txt") for _ in range(2))
    with job.locked():
        job.run(split_rows(2, 1), count_rows)
        # The end of a run is not the end of the lock.
        with pytest.raises(ArtefactError, match="another process works in this folder"):
            other.run(split_rows(2, 1), count_rows)
    with pytest.raises(KeyError), job.locked():
        raise KeyError
    with other.locked(), pytest.raises(ArtefactError, match="another process works in this folder"):
        job.run(split_rows(2, 1), count_rows)
    assert len(job.run(split_rows(2, 1), count_rows)) == 2


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    Job(undisturbed, "count", {}, ".txt").run(split_rows(60, 2), count_rows)
    with start_child(folder) as child:
        wait_for_receipts(folder, random.randrange(1, 8))
        with pytest.raises(ArtefactError, match="another process works in this folder"):
            Job(folder, "count", {}, ".txt").run(split_rows(60, 2), count_rows)
        os.kill(child.pid, signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "receipts").glob("shard-*.json")}
    assert 0 < len(before) < 30
    Job(folder, "count", {}, ".txt").run(split_rows(60, 2), count_rows)
    assert contents(folder) == contents(undisturbed)
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "receipts").glob("shard-*.json")}
    assert all(after[name] == moment for name, moment in before.items()), "a finished shard was done twice"
    assert read_json(folder / "summary.json")["shards_done_before_the_last_run"] == len(before)
