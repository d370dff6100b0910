"""Two Ray nodes, separate processes on this machine, one of them killed in the middle: the result is equal."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bulk_samples import contents, make_sample, write_pairs
from pairstill.scoring.bulk.job import run_bulk
from pairstill.scoring.bulk.keep import Keep
from pairstill.scoring.bulk.plan import plan_bulk

pytestmark = pytest.mark.soak


def test_a_node_is_lost_in_the_middle(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine starts nodes slowly.
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "600")
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from pairstill.jobs.ray_engine import RayEngine

    sample = make_sample(base, tmp_path, sizes=(300, 900))
    write_pairs(sample, tmp_path / "pairs.parquet", 300_000)
    more = {"pairs": str(tmp_path / "pairs.parquet"), "keep": Keep.of(top=5), "pairs_per_shard": 3000}
    run_bulk(plan_bulk(sample.job(tmp_path / "calm", **more)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    killed = threading.Event()
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        receipts = tmp_path / "ray" / "partial" / "receipts"

        def kill() -> None:
            while len(list(receipts.glob("*.json"))) < 20:
                time.sleep(0.05)
            cluster.remove_node(node, allow_graceful=False)
            killed.set()

        threading.Thread(target=kill, daemon=True).start()
        run_bulk(plan_bulk(sample.job(tmp_path / "ray", **more)), RayEngine(2, cluster.address))
        assert killed.is_set()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert contents(tmp_path / "calm") == contents(tmp_path / "ray")
