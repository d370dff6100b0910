"""What a bulk job's `summary.json` says besides shards and machines: what ran, on what, how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairstill.jobs import Engine, Receipt
from pairstill.scoring.bulk.plan import BulkPlan


def summarise(
    plan: BulkPlan, receipts: Sequence[Receipt], before: set[str], engine: Engine | None, wall_s: float
) -> Mapping[str, Any]:
    """Sums over the receipts of the scoring step.

    Args:
        plan: Of the job.
        receipts: Of all its shards.
        before: Names of the shards that were done before the last run.
        engine: That ran it.
        wall_s: Of the last run, all of it.
    """
    workers = int(getattr(engine, "workers", None) or 1)
    total = {
        name: sum(one.details[name] for one in receipts)
        for name in (
            "items_prepared",
            "pairs",
            "pairs_scored",
            "rows_written",
            "rows_skipped",
            "bytes_read_of_stores",
            "bytes_read_of_input",
        )
    }
    head_s, prepare_s, open_s = (
        sum(one.details[name] for one in receipts) for name in ("head_seconds", "prepare_seconds", "open_seconds")
    )
    shard_s = sum(one.seconds for one in receipts) - open_s
    last_run = [one for one in receipts if one.shard.name not in before]
    last = sum(one.details["pairs"] for one in last_run)
    scored = total["pairs_scored"]
    return {
        "student": {"folder": plan.job.student, "fingerprint": plan.body["student"]},
        "stores": [
            {"field": name, "folder": folder, "fingerprint": plan.body["stores"][name]}
            for name, folder in zip(plan.settings.fields, plan.settings.scorer.stores, strict=True)
        ],
        "input": plan.job.pairs or "cross product",
        "keep": plan.job.keep.settings(),
        "precision_choice": plan.choice.body(),
        "engine": {"name": type(engine).__name__ if engine else "LocalEngine", "workers": workers},
        **total,
        "pairs_per_s": round(last / wall_s, 1),
        "pairs_of_the_last_run": last,
        "whole_last_run_seconds": round(wall_s, 3),
        "seconds_of_the_last_runs_shards": round(sum(one.seconds - one.details["open_seconds"] for one in last_run), 3),
        "open_seconds": round(open_s, 3),
        "scoring_seconds": round(shard_s, 3),
        "pairs_per_worker_second": round(scored / shard_s, 1) if shard_s else None,
        "head_pairs_per_s": plan.choice.head_pairs_per_s,
        "head_pairs_per_s_inside": round(scored / head_s, 1) if head_s else None,
        "head_share": round(head_s / shard_s, 4) if shard_s else None,
        "prepare_share": round(prepare_s / shard_s, 4) if shard_s else None,
        "memory": {
            "bound_bytes_per_worker": plan.base_bytes + plan.sizes.worker_bytes,
            "anonymous_bytes": max((one.details["anonymous_bytes"] for one in receipts), default=0),
            "mapped_bytes": max((one.details["mapped_bytes"] for one in receipts), default=0),
            "peak_bytes": max((one.details["peak_bytes"] for one in receipts), default=0),
        },
        "sizes": {"pairs_per_shard": plan.sizes.pairs_per_shard, "items_held": list(plan.sizes.limits)},
        "prepared_bytes_per_item": list(plan.prepared_bytes),
        "multiply_adds_per_pair": plan.multiply_adds,
        "outputs": plan.outputs,
        "notes": list(plan.notes),
    }
