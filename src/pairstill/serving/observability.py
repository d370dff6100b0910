"""What a service tells about itself: metrics in Prometheus' format and one log line a request, without texts or ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

StoreStates = Callable[[], Iterable[tuple[str, int, int]]]
"""Gives name, generation and number of items of each store."""


class Metrics:
    """The numbers of one service, in a registry of its own.

    Args:
        stores: Asked whenever the metrics are read.
        admitted_pairs: The same, of the queue.
        version: The same, of what is served.
    """

    def __init__(self, stores: StoreStates, admitted_pairs: Callable[[], int], version: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pairstill_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "pairstill_request_seconds", "From a request's arrival to its answer.", ["route"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._batch_requests = Histogram(
            "pairstill_batch_requests", "Requests computed together.", buckets=COUNTS, registry=self.registry
        )
        self._batch_pairs = Histogram(
            "pairstill_batch_pairs", "Pairs computed together; a text to encode counts as 32.", buckets=COUNTS,
            registry=self.registry,
        )  # fmt: skip
        self._stages = Histogram(
            "pairstill_stage_seconds", "Of a stage of a batch.", ["stage"], buckets=SECONDS, registry=self.registry
        )
        Gauge(
            "pairstill_queue_pairs", "Pairs of admitted requests.", registry=self.registry
        ).set_function(admitted_pairs)  # fmt: skip
        Gauge(
            "pairstill_model_version", "Counts swaps, from 1.", registry=self.registry
        ).set_function(version)  # fmt: skip
        self.registry.register(_Stores(stores))
        ProcessCollector(registry=self.registry)

    def batch(self, requests: int, pairs: int, stage_s: Mapping[str, float]) -> None:
        """A batch was computed."""
        self._batch_requests.observe(requests)
        self._batch_pairs.observe(pairs)
        for stage, seconds in stage_s.items():
            self._stages.labels(stage).observe(seconds)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered.

        Args:
            route: Its pattern, such as `/v1/items/{id}`, never the path that was asked for.
            method: Such as GET.
            status: Of the answer.
            seconds: From arrival to answer.
        """
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        logger.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Stores(Collector):
    def __init__(self, states: StoreStates) -> None:
        self._states = states

    def collect(self) -> Iterable[GaugeMetricFamily]:
        items = GaugeMetricFamily("pairstill_store_items", "Items of a store.", labels=["store"])
        generations = GaugeMetricFamily("pairstill_store_generation", "State of a store.", labels=["store"])
        for name, generation, count in self._states():
            items.add_metric([name], count)
            generations.add_metric([name], generation)
        return items, generations
