"""Engines: the same shards, whoever does them and whatever befalls those who do."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pairstill.errors import InputError
from pairstill.files import write_text
from pairstill.jobs import Job, ProcessEngine, Shard, split_rows


def count_rows(shard: Shard, path: Path) -> Mapping[str, Any]:
    write_text(path, "".join(f"{row}\n" for row in range(shard.start, shard.stop)))
    return {"process": os.getpid()}


def die_once(shard: Shard, path: Path) -> Mapping[str, Any]:
    """The first attempt at the third shard kills its process."""
    mark = path.parent / "died"
    if shard.start == 4 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return count_rows(shard, path)


def always_die(shard: Shard, path: Path) -> Mapping[str, Any]:
    if shard.start == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return count_rows(shard, path)


def refuse(shard: Shard, path: Path) -> Mapping[str, Any]:
    if shard.start == 4:
        raise InputError("the row is bad", file="pairs.parquet", row=5, fix="Mend it")
    return count_rows(shard, path)


def fail(shard: Shard, path: Path) -> Mapping[str, Any]:
    raise ZeroDivisionError("no message for users")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.txt"))}


def job(folder: Path) -> Job:
    return Job(folder, "count", {}, ".txt")


def test_processes_do_what_one_process_does(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    job(tmp_path / "one").run(split_rows(11, 2), count_rows)
    receipts = job(tmp_path / "two").run(
        split_rows(11, 2), count_rows, lambda done, total: calls.append((done, total)), ProcessEngine(2)
    )
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (calls[0], calls[-1]) == ((0, 11), (11, 11))
    assert os.getpid() not in {one.details["process"] for one in receipts}


def test_a_lost_worker_s_shard_is_done_again(tmp_path: Path) -> None:
    job(tmp_path).run(split_rows(11, 2), die_once, None, ProcessEngine(2))
    assert (tmp_path / "died").exists()
    assert contents(tmp_path)["shard-00002.txt"] == b"4\n5\n"
    assert len(contents(tmp_path)) == 6


def test_a_shard_that_loses_every_worker_ends_the_job_and_what_is_done_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'shard-00002' was lost 3 times \(killed by SIGKILL\).*it resumes"):
        job(tmp_path).run(split_rows(11, 2), always_die, None, ProcessEngine(1))
    assert {"shard-00000.txt", "shard-00001.txt"} <= set(contents(tmp_path))
    job(tmp_path).run(split_rows(11, 2), count_rows, None, ProcessEngine(1))
    assert len(contents(tmp_path)) == 6


def test_messages_come_back_from_workers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^pairs\.parquet, row 5: the row is bad\. Mend it\.$"):
        job(tmp_path / "a").run(split_rows(11, 2), refuse, None, ProcessEngine(1))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: no message for users"):
        job(tmp_path / "b").run(split_rows(11, 2), fail, None, ProcessEngine(1))


def test_no_workers_are_refused() -> None:
    with pytest.raises(InputError, match="the number of workers is 0"):
        ProcessEngine(0)


def test_ray_does_what_one_process_does_and_replaces_lost_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    from pairstill.jobs.ray_engine import RayEngine

    job(tmp_path / "one").run(split_rows(11, 2), count_rows)
    job(tmp_path / "ray").run(split_rows(11, 2), die_once, None, RayEngine(1))
    assert (tmp_path / "ray" / "died").exists()
    assert contents(tmp_path / "one") == contents(tmp_path / "ray")
    with pytest.raises(InputError, match=r"there is no Ray cluster at '127\.0\.0\.1:1'"):
        job(tmp_path / "none").run(split_rows(11, 2), count_rows, None, RayEngine(1, "127.0.0.1:1"))
    with pytest.raises(InputError, match="the number of workers is 0"):
        RayEngine(0)
