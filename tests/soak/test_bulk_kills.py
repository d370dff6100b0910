"""kill -9 at random moments of `encode` and `score`: what comes out is, byte for byte, what an undisturbed run writes."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from bulk_samples import contents, make_sample, make_texts, write_pairs
from command_line import Command, works
from pairstill.store.manifest import StoreManifest

pytestmark = pytest.mark.soak
KILLS = 20
ITEMS = 12_000


def run(arguments: list[str]) -> float:
    """An undisturbed run; how long it took."""
    began = time.monotonic()
    works(*arguments)
    return time.monotonic() - began


def run_under_kills(
    arguments: list[str], longest_s: float, chance: random.Random, began: Path, most: int = KILLS
) -> int:
    """Kill it at random moments until it ends, or has been killed so often; how often it was killed at work.

    Only the command itself is killed: its workers must notice by themselves.
    """
    kills = 0
    while True:
        command = Command(*arguments)
        if kills < most:
            # Much of a run is start-up; work begins when the folder changes.
            before = began.stat().st_mtime_ns if began.exists() else None
            deadline = time.monotonic() + longest_s
            while not command.ended(0.01) and time.monotonic() < deadline:
                if began.exists() and began.stat().st_mtime_ns != before:
                    break
            kills += not command.ended(chance.uniform(0, 0.3))
            command.kill()
        done = command.wait()
        if done.returncode == 0:
            return kills
        assert done.returncode == -signal.SIGKILL, done.stderr


def store_contents(folder: Path) -> dict[str, bytes]:
    """The store's state: its manifest and the files that it names; what an edit left behind goes with the next one."""
    names = [one.file for one in StoreManifest.load(folder).files]
    return {name: (folder / name).read_bytes() for name in ["manifest.json", *names]}


def test_encode_under_kills(base: Path, tmp_path: Path) -> None:
    make_sample(base, tmp_path)
    chance = random.Random(0)
    texts = make_texts(ITEMS, 5)

    def arguments(out: str) -> list[str]:
        return [
            "encode", "--student", str(tmp_path / "student"), "--texts", str(tmp_path / "items.csv"), "--id", "id", "--text", "text",
            "--position", "2", "--field", "item", "--out", str(tmp_path / out), "--shard-rows", "100", "--threads", "1",
            "--precision", "float32",
        ]  # fmt: skip

    # First all of them; then some are new, some changed and some gone.
    for changed in (False, True):
        rows = [
            f"i{number},{text + (' w5' if changed and number % 3 == 0 else '')}" for number, text in enumerate(texts)
        ]
        rows = rows[50:] + [f"n{number},w{number % 60}" for number in range(300)] if changed else rows
        (tmp_path / "items.csv").write_text("id,text\n" + "\n".join(rows) + "\n")
        more = ["--delete-missing"] if changed else []
        before = tmp_path / "before"
        if changed:
            shutil.copytree(tmp_path / "calm", before)
        took, kills = run([*arguments("calm"), *more]), 0
        while kills < KILLS // 2:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
            if changed:
                shutil.copytree(before, tmp_path / "killed")
            found = run_under_kills(
                [*arguments("killed"), *more], took + 30, chance, tmp_path / "killed", KILLS // 2 - kills
            )
            assert found
            kills += found
            assert store_contents(tmp_path / "calm") == store_contents(tmp_path / "killed")


@pytest.mark.parametrize("keep", [["--top", "5"], []])
def test_score_under_kills(base: Path, tmp_path: Path, keep: list[str]) -> None:
    sample = make_sample(base, tmp_path, sizes=(300, 900))
    write_pairs(sample, tmp_path / "pairs.parquet", 300_000)

    def arguments(out: str) -> list[str]:
        stores = [part for name, folder in sample.stores.items() for part in ("--store", f"{name}={folder}")]
        return [
            "score", "--student", str(tmp_path / "student"), *stores, "--pairs", str(tmp_path / "pairs.parquet"), "--out",
            str(tmp_path / out), "--precision", "float32", "--workers", "2", "--shard-pairs", "6000", *keep,
        ]  # fmt: skip

    took, kills, chance = run(arguments("calm")), 0, random.Random(1)
    receipts = tmp_path / "killed" / ("partial/receipts" if keep else "receipts")
    while kills < KILLS:
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        found = run_under_kills(arguments("killed"), took + 30, chance, receipts, KILLS - kills)
        assert found
        kills += found
        assert contents(tmp_path / "calm") == contents(tmp_path / "killed")
