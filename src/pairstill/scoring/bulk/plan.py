"""What a bulk job is asked to do, and its plan: checked, its precision chosen, cut into shards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import InputError
from pairstill.files import MANIFEST, fingerprint_file, read_json
from pairstill.jobs import Shard
from pairstill.jobs.job import JOB_FILE
from pairstill.machine import memory_use
from pairstill.scoring.bulk.cross import CrossPlan
from pairstill.scoring.bulk.inputs import PairInput, expand, plan_input
from pairstill.scoring.bulk.keep import Keep
from pairstill.scoring.bulk.precision import Agreement, PrecisionChoice, choose_precision
from pairstill.scoring.bulk.rows import OnBadRow, as_one_type, look_up
from pairstill.scoring.bulk.scorer import (
    ScorerSettings,
    check_stores,
    make_scorer,
    prepared_fingerprint,
)
from pairstill.scoring.bulk.shards import ShardSettings
from pairstill.scoring.bulk.sizes import Sizes, cross_blocks, plan_sizes
from pairstill.scoring.bulk.trec import convert_run, fingerprint_run
from pairstill.store import RepresentationStore
from pairstill.students import Student, load_student
from pairstill.students.fingerprints import student_fingerprint

MEMORY_BYTES = 256 << 20
PRECISION_FILE = "precision.json"
SAMPLE_ROWS = 8192
KEPT_BYTES = 20
"""Of a pair among the best of a shard: two store rows and a score."""


@dataclass(frozen=True)
class BulkJob:
    """What is to be scored, and what of it is kept.

    Attributes:
        student: Folder.
        stores: Field name -> folder, in the student's order.
        out: The job's folder.
        pairs: Parquet file or folder, or fsspec address, of pairs or groups by id, or a TREC run; None means the cross
            product of two stores.
        columns: Field name -> column of `pairs`, where names differ.
        trec: Whether `pairs` is a TREC run; None means by its ending (`.trec`, `.run`).
        keep: What is kept.
        output: Which logit is compared, where a part is kept; None means the only one.
        precision: auto, float32, bfloat16 or int8.
        memory_bytes: For prepared items of one worker.
        pairs_per_shard: None chooses.
        on_bad_row: `stop` at a row that cannot be scored, or `skip` it and write it to `skipped.parquet`. A job that stopped goes
            on with `skip`.
    """

    student: str
    stores: Mapping[str, str]
    out: Path
    pairs: str | None = None
    columns: Mapping[str, str] | None = None
    trec: bool | None = None
    keep: Keep = field(default_factory=Keep)
    output: int | None = None
    precision: str = "auto"
    memory_bytes: int = MEMORY_BYTES
    pairs_per_shard: int | None = None
    on_bad_row: OnBadRow = "stop"


@dataclass(frozen=True)
class BulkPlan:
    """A job that was checked and cut; nothing is scored yet.

    Attributes:
        job: What was asked for.
        settings: Of the shard functions.
        body: Everything that changes a result, as JSON.
        choice: Of the precision.
        sizes: How it is cut.
        source: The input; None of a cross product.
        cross: The cross product; None of an input.
        shards: Of the scoring step.
        base_bytes: Of a process that has the student open.
        left_items: Items of the first field's store.
        prepared_bytes: Of an item, a field.
        multiply_adds: Of a pair, with nothing shared.
        outputs: Logits of a pair.
        notes: What a person should know.
    """

    job: BulkJob
    settings: ShardSettings
    body: Mapping[str, Any]
    choice: PrecisionChoice
    sizes: Sizes
    source: PairInput | None
    cross: CrossPlan | None
    shards: tuple[Shard, ...]
    base_bytes: int
    left_items: int
    prepared_bytes: tuple[float, ...]
    multiply_adds: float
    outputs: int
    notes: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Pairs of the job, as far as the input's footers say."""
        return self.cross.left * self.cross.right if self.cross else self.source.pairs if self.source else 0


def plan_bulk(job: BulkJob) -> BulkPlan:
    """Check a job, choose its precision and cut it; a folder that was begun keeps what was chosen then.

    Raises:
        InputError: Student, stores, input or settings do not fit together.
        ArtefactError: A store is damaged or of another student.
    """
    job = replace(job, out=job.out.resolve())
    if job.on_bad_row not in ("stop", "skip"):
        raise InputError(f"'{job.on_bad_row}' is no way to treat a bad row", expected="stop or skip")
    student = load_student(job.student)
    stores = {name: RepresentationStore.open(folder, checksums=False) for name, folder in job.stores.items()}
    check_stores(student, stores)
    output = _output(student, job)
    source, listed = _source(job, stores), list(stores.values())
    sample = _sample(source, stores)
    choice = _choice(job, student, listed, sample)
    use = tuple(
        bool(store.prepared_names) and store.prepared_fingerprint == prepared_fingerprint(student, choice.chosen)
        and store.dtype == ("float32" if choice.chosen == "float32" else "bfloat16")
        for store in listed
    )  # fmt: skip
    folders = tuple(str(Path(folder).resolve()) for folder in job.stores.values())
    manifests = {name: fingerprint_file(store.folder / MANIFEST) for name, store in stores.items()}
    scorer = ScorerSettings(
        str(Path(job.student).resolve()), folders, tuple(manifests.values()), choice.chosen, choice.calibration, use
    )
    prepared = _prepared_bytes(student, listed, scorer, sample)
    multiply_adds = student.multiply_adds_per_pair([float(max(1, store.tokens)) for store in listed])
    sizes = plan_sizes(
        source.pairs if source else len(listed[0]) * len(listed[1]), prepared,
        [_widened_bytes(store) for store in listed], student.outputs, multiply_adds, job.memory_bytes,
        job.pairs_per_shard, source is None,
    )  # fmt: skip
    cross = None
    if source is None:
        left, right = (len(store) for store in listed)
        cross = CrossPlan(left, right, *cross_blocks(left, right, sizes))
        kept = min(cross.left_block * (job.keep.count or 0), cross.left_block * cross.right_block)
        sizes = replace(
            sizes, limits=(cross.left_block, min(sizes.limits[1], cross.right_block)),
            worker_bytes=sizes.worker_bytes + KEPT_BYTES * kept,
        )  # fmt: skip
    fingerprints = {
        "student": student_fingerprint(student),
        "stores": manifests,
        "input": source.fingerprint if source else "cross product",
    }
    body = {
        **fingerprints, "fields": list(stores), "keep": job.keep.settings(), "output": output,
        "precision": choice.settings(), "prepared_part_read": list(use), "sizes": sizes.settings(),
    }  # fmt: skip
    settings = ShardSettings(scorer, tuple(stores), job.keep, output, sizes.limits, fingerprints)
    shards = cross.shards() if cross else _input_shards(source, sizes.pairs_per_shard) if source else []
    return BulkPlan(
        job, settings, body, choice, sizes, source, cross, tuple(shards), memory_use().get("anonymous", 0), len(listed[0]), tuple(prepared), multiply_adds, student.outputs,
        tuple(_notes(source, stores, use)),
    )  # fmt: skip


def _output(student: Student, job: BulkJob) -> int:
    if job.output is not None and not 0 <= job.output < student.outputs:
        raise InputError(f"the output {job.output} is asked for", expected=f"0 to {student.outputs - 1}")
    if job.output is None and student.outputs > 1 and job.keep.kind != "all":
        raise InputError(
            f"this student gives {student.outputs} logits, and a part of the pairs is kept by one of them",
            expected=f"--output from 0 to {student.outputs - 1}",
        )
    return job.output or 0


def _source(job: BulkJob, stores: Mapping[str, RepresentationStore]) -> PairInput | None:
    columns = dict(job.columns or {})
    unknown = [name for name in columns if name not in stores]
    if unknown:
        raise InputError(f"--column names the field '{unknown[0]}'", expected=f"one of {', '.join(stores)}")
    if job.pairs is None:
        if len(stores) != 2:
            raise InputError(
                f"the cross product of {len(stores)} stores is asked for", expected="two",
                fix="Give the tuples to score with --pairs",
            )  # fmt: skip
        if columns or job.trec:
            raise InputError("--column and --trec are about an input, and there is none", fix="Give it with --pairs")
        return None
    types = {name: store.manifest.id_type or "string" for name, store in stores.items()}
    is_run = job.trec if job.trec is not None else job.pairs.removesuffix(".gz").endswith((".trec", ".run"))
    if is_run:
        if len(stores) != 2 or columns:
            raise InputError("a TREC run has topics and documents", expected="two stores, and no --column")
        path = job.out / f"candidates-{fingerprint_run(job.pairs)[:12]}.parquet"
        if not path.exists():
            convert_run(job.pairs, path, types)
        return plan_input(str(path), {name: name for name in stores}, types)
    source = plan_input(job.pairs, {name: columns.get(name, name) for name in stores}, types)
    broken = [one for one in source.files if one.problem]
    if broken and job.on_bad_row == "stop":
        raise InputError(
            str(broken[0].problem), file=broken[0].name,
            fix="Copy it again, or go on without it with --on-bad-row skip",
        )  # fmt: skip
    return source


def _sample(source: PairInput | None, stores: Mapping[str, RepresentationStore], seed: int = 0) -> np.ndarray:
    """Store rows of some of the job's pairs."""
    random = np.random.default_rng(seed)
    if source is None:
        return np.stack([random.integers(0, len(store), SAMPLE_ROWS) for store in stores.values()], axis=1)
    found = []
    step = max(1, source.rows // 4)
    for start in range(0, source.rows, step):
        for piece in source.read(start, min(source.rows, start + SAMPLE_ROWS // 4)):
            if piece.table is not None:
                ids, _, _ = expand(piece.table, source.lists)
                rows = np.stack([look_up(as_one_type(ids[name]), store) for name, store in stores.items()], axis=1)
                found.append(rows[(rows >= 0).all(axis=1)])
    rows = np.concatenate(found) if found else np.empty((0, len(stores)), np.int64)
    if not len(rows):
        raise InputError(
            "of the rows that were looked at, none has ids that the stores know", file=source.address,
            expected=", ".join(f"ids of {store.folder} in '{source.columns[name]}'" for name, store in stores.items()),
        )  # fmt: skip
    return rows[random.permutation(len(rows))[:SAMPLE_ROWS]]


def _choice(
    job: BulkJob, student: Student, stores: Sequence[RepresentationStore], sample: np.ndarray
) -> PrecisionChoice:
    """What was chosen when the folder was begun; measured where it was not."""
    begun = _begun(job.out)
    if begun is None or begun["asked"] != job.precision:
        return choose_precision(student, stores, sample, job.precision)
    scales = begun["calibration"]
    calibration = None if scales is None else tuple((one[0], one[1], one[2]) for one in scales)
    path = job.out / PRECISION_FILE
    if path.exists():
        known = [{key: one[key] for key in one if key != "agrees"} for one in read_json(path)["measured"]]
        measured = tuple(Agreement(**one) for one in known)
    else:
        measured = choose_precision(student, stores, sample, begun["chosen"]).measured
    return PrecisionChoice(begun["asked"], begun["chosen"], calibration, measured)


def _begun(folder: Path) -> Mapping[str, Any] | None:
    """The precision in the settings of a job that was begun in a folder; None where there is none."""
    if not (folder / JOB_FILE).exists():
        return None
    body = read_json(folder / JOB_FILE)
    settings = body.get("settings") if isinstance(body, dict) else None
    found = settings.get("precision") if isinstance(settings, dict) else None
    return found if isinstance(found, dict) and {"asked", "chosen", "calibration"} <= set(found) else None


def _prepared_bytes(
    student: Student, stores: Sequence[RepresentationStore], settings: ScorerSettings, sample: np.ndarray
) -> list[float]:
    """Bytes of a prepared item, a field, measured on a few."""
    scorer = make_scorer(student, stores, settings)
    found = []
    for place in range(len(stores)):
        rows = np.unique(sample[:, place])
        if stores[place].stride == "ragged":
            # Prepared items are as wide as the longest beside them.
            rows = rows[np.argsort(-stores[place].lengths(rows), kind="stable")]
        rows = rows[:64]
        found.append(scorer.prepared_bytes(scorer.prepare(place, rows)) / len(rows) + 8)
    return found


def _widened_bytes(store: RepresentationStore) -> float:
    """Bytes of an item with its vectors in float32."""
    return store.bytes_per_item() * {"int8": 4, "uint8": 4, "bfloat16": 2, "float16": 2}.get(store.dtype, 1)


def _input_shards(source: PairInput, pairs_per_shard: int) -> list[Shard]:
    """Shards of about as many pairs, cut between rows."""
    rows = np.cumsum([0, *(count for one in source.files for count in one.groups)])
    pairs = np.cumsum([0, *(count for one in source.files for count in one.pairs)])
    edges = np.interp(np.arange(0, int(pairs[-1]), pairs_per_shard), pairs, rows).astype(np.int64)
    edges = np.unique(np.append(edges, rows[-1]))
    return [
        Shard(f"shard-{number:05d}", int(start), int(stop))
        for number, (start, stop) in enumerate(itertools.pairwise(edges))
    ]


def _notes(source: PairInput | None, stores: Mapping[str, RepresentationStore], use: Sequence[bool]) -> list[str]:
    notes = []
    for one in source.files if source else ():
        if one.problem:
            notes.append(f"{one.name} is left out: {one.problem}")
    for (name, store), used in zip(stores.items(), use, strict=True):
        if store.prepared_names and not used:
            notes.append(f"the prepared part of '{name}' is of another student or precision and is not read")
    return notes
