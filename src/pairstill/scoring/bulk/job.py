"""Running a bulk job: planned shards scored on an engine, merged where the top is kept, and the folder's manifest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairstill.files import read_json, write_json, write_manifest
from pairstill.jobs import Engine, Job, Receipt, Shard, split_rows
from pairstill.jobs.job import SUMMARY_FILE
from pairstill.scoring.bulk.cross import ScoreCross
from pairstill.scoring.bulk.merge import MergeTop
from pairstill.scoring.bulk.plan import PRECISION_FILE, BulkPlan
from pairstill.scoring.bulk.results import join_skipped
from pairstill.scoring.bulk.shards import ScorePairs
from pairstill.scoring.bulk.summary import summarise

FORMAT, FORMAT_VERSION = "scores", 1
PARTIAL, SKIPPED = "partial", "skipped"
MERGE_ROWS = 1 << 20


@dataclass(frozen=True)
class BulkResult:
    """A finished job.

    Attributes:
        folder: Its folder.
        summary: `summary.json`.
    """

    folder: Path
    summary: Mapping[str, Any]


def run_bulk(
    plan: BulkPlan, engine: Engine | None = None, progress: Callable[[int, int], None] | None = None
) -> BulkResult:
    """Run or resume a planned job.

    Args:
        plan: From `plan_bulk`.
        engine: Where shards run; None means one after the other in this process.
        progress: Called with (done, total), in pairs (rows of the input, where it is one).

    Raises:
        InputError: A row is bad and the job stops at those, the disk is full, or workers were lost.
        ArtefactError: The folder belongs to another job, or another process works in it.
    """
    began = time.perf_counter()
    folder, shards, top = plan.job.out, plan.shards, plan.job.keep.count
    final = Job(folder, "score", plan.body, ".parquet", precision=plan.choice.chosen)
    with final.locked():
        write_json(folder / PRECISION_FILE, plan.choice.body())
        last = shards if top is None else split_rows(plan.left_items, max(1, MERGE_ROWS // top))
        if (folder / SUMMARY_FILE).exists() and len(final.receipts(last)) == len(last):
            if progress:
                progress(sum(map(len, shards)), sum(map(len, shards)))
            return _finish(plan, final, last)

        scoring = final
        if top is not None:
            scoring = Job(folder / PARTIAL, "score-partial", plan.body, ".parquet", precision=plan.choice.chosen)
        function, before = _function(plan, folder), set(scoring.receipts(shards))

        def summary_of(receipts: Sequence[Receipt]) -> Mapping[str, Any]:
            return summarise(plan, receipts, before, engine, time.perf_counter() - began)

        if top is None:
            final.run(shards, function, progress, engine, summary_of)
        else:
            scored = scoring.run(shards, function, progress, engine)
            merge = MergeTop(
                plan.settings.scorer, plan.settings.fields, top, str(folder.resolve() / PARTIAL),
                tuple(one.file for one in scored), plan.cross,
            )  # fmt: skip
            final.run(last, merge, None, engine, lambda receipts: summary_of(scored))
        return _finish(plan, final, last)


def _finish(plan: BulkPlan, final: Job, shards: Sequence[Shard]) -> BulkResult:
    """Join what was skipped (its files stay: a shard that is done again replaces its own), write the manifest, drop the partial results."""
    folder = plan.job.out
    unread = [(one.name, str(one.problem)) for one in (plan.source.files if plan.source else ()) if one.problem]
    names = [one.name for one in plan.shards]
    join_skipped(folder / SKIPPED, names, plan.settings.fields, unread, folder / "skipped.parquet")
    receipts = final.receipts(shards)
    files = [receipts[one.name] for one in shards]
    write_manifest(
        folder, FORMAT, FORMAT_VERSION,
        {
            **plan.body,
            "rows": sum(int(one.details["rows_written"]) for one in files),
            "shards": [
                {"file": one.file, "rows": one.details["rows_written"], "bytes": one.bytes, "sha256": one.sha256}
                for one in files
            ],
        },
    )  # fmt: skip
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return BulkResult(folder, read_json(folder / SUMMARY_FILE))


def _function(plan: BulkPlan, folder: Path) -> ScorePairs | ScoreCross:
    if plan.cross is not None:
        return ScoreCross(plan.settings, plan.cross)
    assert plan.source is not None
    return ScorePairs(plan.settings, plan.source, plan.job.on_bad_row, str(folder.resolve() / SKIPPED))
