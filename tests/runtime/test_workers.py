"""Threads that callers share."""

from __future__ import annotations

import threading

import pytest

from pairstill.runtime.workers import Workers


def test_results_come_in_the_order_of_the_blocks() -> None:
    for threads in (1, 3):
        assert Workers(threads).map(lambda one: one * one, range(50)) == [one * one for one in range(50)]
        assert Workers(threads).map(str, [7]) == ["7"]
        assert Workers(threads).map(str, []) == []


def test_a_caller_of_few_blocks_does_not_wait_for_all_of_another() -> None:
    workers, go = Workers(2), threading.Semaphore(0)
    done: list[str] = []

    def block(name: str) -> None:
        assert go.acquire(timeout=30)
        done.append(name)

    long = threading.Thread(target=workers.map, args=(block, ["long"] * 40))
    long.start()
    while workers._pool is None or workers._pool._work_queue.qsize() < 2:
        pass
    short = threading.Thread(target=workers.map, args=(block, ["short"] * 2))
    short.start()
    while workers._pool._work_queue.qsize() < 4:
        pass
    for _ in range(12):
        go.release()
    short.join(30)
    assert not short.is_alive()
    assert done.count("long") <= 10
    for _ in range(30):
        go.release()
    long.join(30)
    assert done.count("long") == 40


def test_an_error_ends_the_others() -> None:
    workers = Workers(2)
    done: list[int] = []

    def block(number: int) -> None:
        if number == 3:
            raise ValueError("three")
        done.append(number)

    with pytest.raises(ValueError, match="three"):
        workers.map(block, range(200))
    assert 3 not in done
    assert workers.map(str, range(5)) == ["0", "1", "2", "3", "4"]
