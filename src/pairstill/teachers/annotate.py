"""Score tuples with a teacher into the teacher-score artefact: fast, resumable, in stored order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.files import write_parquet
from pairstill.jobs import Job, Shard, split_rows
from pairstill.students import CrossEncoder, Student
from pairstill.students.inference import map_blocks
from pairstill.students.persistence import state_fingerprint
from pairstill.teachers.scores import ScoresManifest, TeacherInfo, TeacherScores, finish_scores, scores_table
from pairstill.tokens.ragged import RaggedTokens, length_batches
from pairstill.tuples import Tuples, TupleSet

TOKENS_PER_BATCH = 4096
"""Of a forward pass, padding counted: larger ones leave the cache and are slower on a CPU."""

SHARD_ROWS = 16_384

LIMIT_SEED = 0


def annotate(
    teacher: Student,
    tuple_set: TupleSet,
    folder: str | Path,
    *,
    name: str,
    splits: Sequence[str] = (),
    limit: int | None = None,
    precision: str = "float32",
    shard_rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherScores:
    """Score rows of a tuple set; interrupted, the same call goes on with the first unfinished shard.

    Each distinct text of a shard is tokenised once, and each distinct tuple of it scored once. A shard's tuples are sorted into batches of similar length and written back in
    stored order; a shard is computed alike whenever and however often it is, so a resumed job gives the same bytes.

    Args:
        teacher: Gives raw logits: a cross-encoder or, as a teacher's assistant, any other student.
        tuple_set: What to score.
        folder: Where the scores go.
        name: Of the teacher, for the manifest.
        splits: Rows of these splits; none means all.
        limit: So many of them, as `rows_to_score` draws them; None scores all.
        precision: `float32`, or `bfloat16` where the processor has it.
        shard_rows: Rows of a shard; an interrupted job loses the shard it was in. None takes 16,384 and, where the teacher
            encodes each text of a shard once, up to 262,144 as far as what it keeps of them fits into 1 GiB
            (twice that while it is put in order).
        progress: Called with (rows done, rows in all).

    Raises:
        InputError: The teacher takes another number of fields or gives outputs that the labels have no use for, or a
            split is missing.
        ArtefactError: The folder was started with another teacher, other rows or another precision.
    """
    teacher.check_fields(tuple_set)
    _check_outputs(teacher, tuple_set)
    wanted = rows_to_score(tuple_set, splits, limit)
    if not len(wanted):
        raise InputError("there is no row to score", expected="at least one")
    information = TeacherInfo(name, _fingerprint(teacher))
    lengths = (teacher.max_length,) if isinstance(teacher, CrossEncoder) else teacher.max_lengths
    if shard_rows is None:
        shard_rows = _shard_rows(teacher)
    settings = {
        "teacher": information.fingerprint, "tuple_set": tuple_set.fingerprint, "splits": list(splits), "rows": len(wanted),
        "precision": precision, **_length_setting(lengths), "shard_rows": shard_rows,
        **({"limit_seed": LIMIT_SEED} if len(wanted) < len(tuple_set.split(*splits)) else {}),
    }  # fmt: skip
    shards = split_rows(len(wanted), shard_rows)
    scorer = _scorer(teacher, tuple_set, precision)
    job = Job(folder, "annotate", settings, ".parquet")

    def write(shard: Shard, target: Path) -> Mapping[str, Any]:
        rows = slice(shard.start, shard.stop)
        step = None if progress is None else (lambda count: progress(shard.start + count, len(wanted)))
        # Triples name what is relevant again and again.
        distinct, places = np.unique(wanted.index[rows], axis=0, return_inverse=True)
        repeats = len(distinct) < len(shard)
        logits, cut = scorer.score(distinct if repeats else wanted.index[rows], step)
        if repeats:
            logits, cut = logits[places.reshape(-1)], cut[places.reshape(-1)]
        write_parquet(target, scores_table(tuple_set, wanted.rows[rows], logits, "logit"))
        return {"truncated": int(cut.sum())}

    receipts = job.run(shards, write, progress)
    manifest = ScoresManifest(
        teachers=(information,), score_kind="logit", outputs=teacher.outputs, fields=tuple_set.field_names,
        splits=tuple(splits), tuple_set=tuple_set.fingerprint,
        classes=tuple_set.labels.classes if teacher.outputs > 1 else (), max_lengths=lengths,
        truncated=sum(int(one.details["truncated"]) for one in receipts), precision=precision,
    )  # fmt: skip
    return finish_scores(Path(folder), manifest, receipts)


def rows_to_score(tuple_set: TupleSet, splits: Sequence[str] = (), limit: int | None = None) -> Tuples:
    """The rows that `annotate` scores, in stored order.

    Args:
        tuple_set: Where they are.
        splits: Rows of these splits; none means all.
        limit: So many of them, drawn with a fixed seed: files are often sorted, and mined sets list all positives before
            any negative. A smaller limit's rows are among a larger one's. None takes all.
    """
    rows = tuple_set.split(*splits)
    if limit is None or limit >= len(rows):
        return rows
    return rows.take(np.sort(np.random.default_rng(LIMIT_SEED).permutation(len(rows))[:limit]))


def _shard_rows(teacher: Student) -> int:
    if isinstance(teacher, CrossEncoder):
        return SHARD_ROWS
    kept = sum(teacher.bytes_per_item(field, length) for field, length in enumerate(teacher.max_lengths))
    return max(SHARD_ROWS, min(16 * SHARD_ROWS, int(2**30 / max(kept, 1))))


def _check_outputs(teacher: Student, tuple_set: TupleSet) -> None:
    labels, outputs = tuple_set.labels, teacher.outputs
    if labels.kind == "classes" and outputs != len(labels.classes):
        raise InputError(
            f"the teacher gives {outputs} logits a tuple and the tuple set has {len(labels.classes)} classes",
            expected=f"one logit for each of {', '.join(labels.classes)}",
        )
    if labels.kind in ("binary", "graded") and outputs > 2:
        raise InputError(
            f"the teacher gives {outputs} logits a tuple and the labels are {labels.kind}",
            expected="one, or the two of a binary classifier",
        )


def _fingerprint(teacher: Student) -> str:
    if isinstance(teacher, CrossEncoder):
        return state_fingerprint(teacher.state_dict(), [teacher.max_length])
    return state_fingerprint(teacher.state_dict(), [teacher.name, asdict(teacher.config)])


def _length_setting(lengths: Sequence[int]) -> dict[str, Any]:
    return {"max_length": lengths[0]} if len(lengths) == 1 else {"max_lengths": list(lengths)}


class Scorer(Protocol):
    """Gives logits of rows of a tuple set."""

    def score(self, index: np.ndarray, progress: Callable[[int], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Logits `(tuples, outputs)` of `index (tuples, fields)`, and `(tuples,)` which of them were cut."""


def _scorer(teacher: Student, tuple_set: TupleSet, precision: str) -> Scorer:
    kind = PairScorer if isinstance(teacher, CrossEncoder) else AssistantScorer
    return kind(teacher, tuple_set, precision)  # type: ignore[arg-type]


class AssistantScorer:
    """Raw logits of rows of a tuple set by a student that encodes fields apart; each text of a call is encoded once.

    Args:
        teacher: The student.
        tuple_set: Where the texts are.
        precision: `float32` or `bfloat16`.

    Raises:
        InputError: The precision is another one.
    """

    def __init__(self, teacher: Student, tuple_set: TupleSet, precision: str) -> None:
        teacher.with_precision(precision)
        self.teacher, self.tuple_set, self.precision = teacher.eval(), tuple_set, precision

    def score(self, index: np.ndarray, progress: Callable[[int], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Logits `(tuples, outputs)` of `index (tuples, fields)`, and `(tuples,)` which of them had a text that was cut."""
        cut = np.zeros(len(index), dtype=bool)
        for field, kind in enumerate(self.teacher.kinds):
            if kind != "text":
                continue
            items, places = np.unique(index[:, field], return_inverse=True)
            cut |= self.teacher.cut(field, self.tuple_set.texts(field, items))[places]
        tuples = Tuples(index, np.arange(len(index)), None, None, np.zeros(len(index), np.int64))
        step = None if progress is None else (lambda done, total: progress(done * len(index) // max(total, 1)))
        return self.teacher.score_tuples(self.tuple_set, tuples, precision=self.precision, progress=step), cut


class PairScorer:
    """Raw logits of rows of a tuple set by a cross-encoder, at the speed of its matrix products.

    Args:
        teacher: The cross-encoder.
        tuple_set: Where the texts are.
        precision: `float32` or `bfloat16`.

    Raises:
        InputError: The precision is another one.
    """

    def __init__(self, teacher: CrossEncoder, tuple_set: TupleSet, precision: str) -> None:
        self.teacher, self.tuple_set = teacher.eval().with_precision(precision), tuple_set

    def tokens(self, field: int, items: np.ndarray) -> tuple[RaggedTokens, np.ndarray]:
        """Tokens of these items of a field, and each item's place among them."""
        distinct, places = np.unique(items, return_inverse=True)
        return self.teacher.tokenize(field, self.tuple_set.texts(field, distinct)), places

    def score(self, index: np.ndarray, progress: Callable[[int], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Logits `(tuples, outputs)` of `index (tuples, fields)`, and `(tuples,)` which of them were cut."""
        teacher = self.teacher
        fields = [self.tokens(field, index[:, field]) for field in range(teacher.field_count)]
        joined = sum(tokens.lengths[places] for tokens, places in fields) + teacher.template.special_count
        lengths = np.minimum(joined, teacher.max_length)
        out = np.empty((len(index), teacher.outputs), dtype=np.float32)
        done = 0
        batches = length_batches(lengths, TOKENS_PER_BATCH, 512)
        scored = map_blocks(lambda rows: self._batch(fields, rows).cpu().numpy(), batches, teacher.device)
        for rows, logits in zip(batches, scored, strict=True):
            out[rows] = logits
            done += len(rows)
            if progress is not None:
                progress(done)
        return out, joined > teacher.max_length

    def _batch(self, fields: Sequence[tuple[RaggedTokens, np.ndarray]], rows: np.ndarray) -> Tensor:
        prepared = []
        for tokens, places in fields:
            ids, lengths = tokens.padded(places[rows], self.teacher.padding)
            prepared.append({"ids": torch.from_numpy(ids), "lengths": torch.from_numpy(lengths)})
        device = self.teacher.device
        prepared = [{name: value.to(device) for name, value in one.items()} for one in prepared]
        index = torch.arange(len(rows), device=device)[:, None].expand(-1, len(fields))
        return self.teacher.score(prepared, index)


def agreement_with_float32(teacher: Student, tuple_set: TupleSet, rows: np.ndarray, sample: int = 256) -> float:
    """Kendall's tau between bfloat16 scores and float32 ones, on rows spread evenly over `rows (rows,)`; 1 where it is one row, or where all are equal."""
    from scipy.stats import kendalltau

    if len(rows) < 2:
        return 1.0
    places = np.unique(np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(np.int64))
    index = tuple_set.index[rows[places]]
    exact, narrow = (_scorer(teacher, tuple_set, one).score(index)[0].ravel() for one in ("float32", "bfloat16"))
    tau = float(kendalltau(exact, narrow).statistic)
    return tau if np.isfinite(tau) else float(np.array_equal(exact, narrow))
