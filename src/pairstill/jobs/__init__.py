"""Long jobs that survive being killed: shards, receipts, engines."""

from pairstill.jobs.engine import Engine, LocalEngine
from pairstill.jobs.job import Job, ShardFunction, ShardTask
from pairstill.jobs.process_engine import ProcessEngine
from pairstill.jobs.shard import Receipt, Shard, check_output, split_rows

__all__ = [
    "Engine", "Job", "LocalEngine", "ProcessEngine", "Receipt", "Shard", "ShardFunction", "ShardTask", "check_output",
    "split_rows",
]  # fmt: skip
