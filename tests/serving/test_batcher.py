"""Requests at the same time: what is computed with what, in which order, and what is not computed at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.serving.batcher import Batcher, Piece, Work
from pairstill.serving.errors import ServiceError
from pairstill.serving.settings import Limits

SECRET = "what a client wrote"


class Recorder:
    """Computes when it is let, and notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[Work, int, int]]] = []
        self.observed: list[tuple[int, int]] = []
        self.go = threading.Event()
        self.began = threading.Event()
        self.bad: set[Work] = set()

    def __call__(self, pieces: Sequence[Piece]) -> Mapping[str, float]:
        self.began.set()
        assert self.go.wait(10)
        self.batches.append([(piece.work, piece.start, piece.stop) for piece in pieces])
        if any(piece.work in self.bad for piece in pieces):
            raise ValueError(SECRET)
        return {"head": 0.25}

    def batch(self, requests: int, pairs: int, stage_s: Mapping[str, float]) -> None:
        self.observed.append((requests, pairs))


def work(*costs: int) -> Work:
    return Work(np.array(costs))


def run(limits: Limits, story: Callable[[Batcher, Recorder], Awaitable[None]]) -> Recorder:
    recorder = Recorder()

    async def tell() -> None:
        batcher = Batcher(recorder, limits, recorder)
        batcher.start()
        try:
            await story(batcher, recorder)
        finally:
            recorder.go.set()
            await batcher.stop()

    asyncio.run(asyncio.wait_for(tell(), 20))
    return recorder


def later(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def queued(batcher: Batcher, recorder: Recorder, *works: Work) -> list[asyncio.Task[None]]:
    """The first work is being computed, the others wait."""
    tasks = []
    for one in works:
        tasks.append(asyncio.create_task(batcher.run(one, later())))
        await asyncio.sleep(0)
        if one is works[0]:
            await asyncio.to_thread(recorder.began.wait, 10)
    return tasks


def test_requests_that_wait_are_computed_together_in_their_order() -> None:
    first, second, third = work(1), work(1, 1), work(1)

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        tasks = await queued(batcher, recorder, first, second, third)
        recorder.go.set()
        await asyncio.gather(*tasks)

    recorder = run(Limits(), story)
    assert recorder.batches == [[(first, 0, 1)], [(second, 0, 2), (third, 0, 1)]]
    assert recorder.observed == [(1, 1), (2, 3)]
    assert second.stage_s == {"head": 0.25}


def test_a_long_request_gives_way_after_its_share() -> None:
    running, long, small = work(1), work(*[1] * 25), work(2, 2)

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        tasks = await queued(batcher, recorder, running, long, small)
        recorder.go.set()
        await asyncio.gather(*tasks)

    recorder = run(Limits(batch_pairs=10), story)
    assert recorder.batches[1:3] == [[(long, 0, 10)], [(small, 0, 2), (long, 10, 16)]]
    assert recorder.batches[-1] == [(long, 16, 25)]
    assert long.stage_s == {"head": 0.75}


def test_a_step_that_costs_more_than_a_batch_is_one_of_its_own() -> None:
    dear = work(50, 50)

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        recorder.go.set()
        await batcher.run(dear, later())

    assert run(Limits(batch_pairs=10), story).batches == [[(dear, 0, 1)], [(dear, 1, 2)]]


def test_what_is_too_late_is_never_computed() -> None:
    running, late, good = work(1), work(1), work(1)

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        tasks = await queued(batcher, recorder, running)
        with pytest.raises(ServiceError) as refused:
            await batcher.run(late, later(0.01))
        assert refused.value.status_code == 503
        assert refused.value.headers is not None
        assert refused.value.headers["Retry-After"] == "1"
        tasks.append(asyncio.create_task(batcher.run(good, later())))
        await asyncio.sleep(0)
        recorder.go.set()
        await asyncio.gather(*tasks)

    recorder = run(Limits(), story)
    assert [one for batch in recorder.batches for one, _, _ in batch] == [running, good]


def test_a_full_queue_refuses_at_once_and_has_room_again() -> None:
    async def story(batcher: Batcher, recorder: Recorder) -> None:
        with batcher.admitted(70):
            with pytest.raises(ServiceError) as refused, batcher.admitted(31):
                pass
            assert refused.value.status_code == 429
            assert refused.value.headers is not None
            assert refused.value.headers["Retry-After"] == "1"
            # There is room for smaller ones: they are to be read.
            assert not batcher.overloaded
            with batcher.admitted(30):
                assert batcher.admitted_pairs == 100
                with pytest.raises(ServiceError), batcher.admitted(1):
                    pass
                assert batcher.overloaded
        assert not batcher.overloaded
        with batcher.admitted(1000):  # alone, it is served however large it is
            pass
        assert batcher.admitted_pairs == 0

    run(Limits(queue_pairs=100), story)


def test_one_that_cannot_be_computed_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    running, bad, good = work(1), work(1), work(1)

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        recorder.bad.add(bad)
        tasks = await queued(batcher, recorder, running, bad, good)
        recorder.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in results] == [type(None), ValueError, type(None)]

    run(Limits(), story)
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_stopping_finishes_what_waits_and_refuses_more() -> None:
    first, second = work(1), work(1)

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        tasks = await queued(batcher, recorder, first, second)
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as refused:
            await batcher.run(work(1), later())
        assert refused.value.status_code == 503
        recorder.go.set()
        await asyncio.gather(stopping, *tasks)

    recorder = run(Limits(), story)
    assert [one for batch in recorder.batches for one, _, _ in batch] == [first, second]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=6), st.integers(1, 50))
def test_every_step_is_computed_once_and_no_batch_is_larger_than_it_may_be(costs: list[list[int]], room: int) -> None:
    works = [work(*one) for one in costs]

    async def story(batcher: Batcher, recorder: Recorder) -> None:
        tasks = await queued(batcher, recorder, work(1), *works)
        recorder.go.set()
        await asyncio.gather(*tasks)

    recorder = run(Limits(batch_pairs=room, batch_wait_ms=0), story)
    for one, own in zip(works, costs, strict=True):
        steps = [step for batch in recorder.batches for other, *part in batch if other is one for step in range(*part)]
        assert steps == list(range(len(own)))
    for batch in recorder.batches:
        assert sum(one.cost_of(start, stop) for one, start, stop in batch) <= room or (
            len(batch) == 1 and batch[0][2] - batch[0][1] == 1
        )
