"""Teacher scores: what a teacher said about tuples of a tuple set, as raw logits on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import NonNegativeInt, PositiveInt

from pairstill.errors import ArtefactError, InputError
from pairstill.files import MANIFEST, parse_body, read_manifest, read_parquet, write_manifest
from pairstill.jobs import Receipt, check_output
from pairstill.scratch import pieces, scratch_array
from pairstill.tuples import TupleSet

FORMAT = "teacher-scores"
FORMAT_VERSION = 1
ScoreKind = Literal["logit", "probability", "other"]


@dataclass(frozen=True)
class TeacherInfo:
    """Who gave the scores.

    Attributes:
        name: Hub name, folder or file.
        fingerprint: SHA-256 of the weights, or of the file that scores were imported from.
        revision: Commit of the hub; None where there is none.
    """

    name: str
    fingerprint: str
    revision: str | None = None


@dataclass(frozen=True)
class ScoresManifest:
    """What is said about teacher scores beside the numbers.

    Attributes:
        teachers: Who gave them; more than one for an ensemble.
        score_kind: `logit`: before any sigmoid or softmax. `probability` and `other`: numbers that are none, such as a
            language model's grades; they rank, but have no soft labels.
        outputs: Scores per tuple: 1, or one a class.
        fields: Names of the tuple set's fields.
        splits: Splits that were scored; empty means all.
        tuple_set: Fingerprint of the tuple set.
        classes: Names of the outputs; empty where the teacher names none.
        max_lengths: Most tokens that the teacher read of a tuple; empty where it is not known.
        truncated: How many tuples were longer than that.
        precision: `float32` or `bfloat16`; None for imported scores, and for parts that differ in it.
        provenance: Anything else that is known.
    """

    teachers: tuple[TeacherInfo, ...]
    score_kind: ScoreKind
    outputs: PositiveInt
    fields: tuple[str, ...]
    splits: tuple[str, ...]
    tuple_set: str
    classes: tuple[str, ...] = ()
    max_lengths: tuple[int, ...] = ()
    truncated: int = 0
    precision: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Shard:
    file: str
    rows: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str


@dataclass(frozen=True)
class _Shards:
    shards: tuple[_Shard, ...]


@dataclass(frozen=True)
class TeacherScores:
    """Scores of tuples in stored order.

    Attributes:
        manifest: Who gave them, of what kind they are, what they belong to.
        rows: `(tuples,)` int64, row numbers in the tuple set's `tuples.parquet`, distinct.
        logits: `(tuples, outputs)` float32, as given; see `ScoresManifest.score_kind`.
        folder: Where they were loaded from, for messages; None for others, such as those of several folders.

    Rows and logits lie on disk where they are large (`scratch`).

    Example:
        >>> scores = TeacherScores.load("runs/teacher-scores")          # doctest: +SKIP
        >>> scores.soft_labels(temperature=2.0).shape                    # doctest: +SKIP
        (159000,)
    """

    manifest: ScoresManifest
    rows: np.ndarray
    logits: np.ndarray
    folder: Path | None = None

    def __len__(self) -> int:
        """Number of scored tuples."""
        return len(self.rows)

    @property
    def kind(self) -> ScoreKind:
        """See `ScoresManifest.score_kind`."""
        return self.manifest.score_kind

    @property
    def outputs(self) -> int:
        """Scores per tuple."""
        return self.manifest.outputs

    def soft_labels(self, temperature: float = 1.0) -> np.ndarray:
        """Probabilities at a temperature: sigmoid(z / T) of one output, softmax(z / T) of several.

        Returns:
            `(tuples,)` float32 for one output, `(tuples, outputs)` for several.

        Raises:
            InputError: The scores are no logits, or the temperature is not above 0.
        """
        self.require_logits("soft labels")
        if not temperature > 0 or not np.isfinite(temperature):
            raise InputError(f"the temperature is {temperature}", expected="a finite number above 0")
        scaled = self.logits.astype(np.float64) / temperature
        if self.outputs == 1:
            return _sigmoid(scaled[:, 0]).astype(np.float32)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)

    def single(self) -> np.ndarray:
        """One score per tuple: the only output, or z1 - z0 of a classifier with two.

        Returns:
            `(tuples,)` float32.

        Raises:
            InputError: There are more than two outputs.
        """
        if self.outputs == 1:
            return self.logits[:, 0]
        if self.outputs == 2 and self.kind == "logit":
            return np.asarray(self.logits[:, 1] - self.logits[:, 0])
        raise InputError(
            f"the teacher gives {self.outputs} scores a tuple", expected="one, or the two logits of a binary classifier"
        )

    def as_single(self) -> TeacherScores:
        """The same scores with one number a tuple, see `single`; themselves where they have one.

        Raises:
            InputError: There are more than two outputs.
        """
        if self.outputs == 1:
            return self
        logits = scratch_array((len(self), 1), np.float32)
        for piece in pieces(len(self)):
            logits[piece, 0] = replace(self, rows=self.rows[piece], logits=self.logits[piece]).single()
        return replace(self, manifest=replace(self.manifest, outputs=1, classes=()), logits=logits)

    def for_rows(self, rows: np.ndarray) -> np.ndarray:
        """Scores of these row numbers of the tuple set: `(len(rows), outputs)` float32, NaN where a row has none."""
        out = scratch_array((len(rows), self.outputs), np.float32)
        for piece in pieces(len(rows)):
            wanted = rows[piece]
            out[piece] = np.nan
            inside = np.flatnonzero(wanted < len(self._places))
            places = self._places[wanted[inside]]
            out[piece.start + inside[places >= 0]] = self.logits[places[places >= 0]]
        return out

    @cached_property
    def _places(self) -> np.ndarray:
        """`(rows of the tuple set, up to the last scored one,)` int64: where a row's score stands, -1 where it has none."""
        last = max((int(self.rows[piece].max()) for piece in pieces(len(self))), default=-1)
        out = scratch_array((last + 1,), np.int64)
        out[:] = -1
        for piece in pieces(len(self)):
            out[self.rows[piece]] = np.arange(piece.start, piece.stop)
        return out

    @property
    def row_twice(self) -> int | None:
        """A row of the tuple set that is scored twice; None where there is none."""
        for piece in pieces(len(self)):
            again = np.flatnonzero(self._places[self.rows[piece]] != np.arange(piece.start, piece.stop))
            if len(again):
                return int(self.rows[piece.start + again[0]])
        return None

    def require_logits(self, what: str) -> None:
        """Refuse scores that are no logits.

        Raises:
            InputError: The scores are of another kind.
        """
        if self.kind != "logit":
            raise InputError(
                f"{what} need raw logits, and these scores are of kind '{self.kind}'",
                fix="Import probabilities with --kind probability, which turns them into logits, or use a ranking loss",
            )

    def check_belongs_to(self, tuple_set: TupleSet) -> None:
        """Refuse a tuple set that these scores were not made for.

        Raises:
            ArtefactError: Its fingerprint is another one.
        """
        if tuple_set.fingerprint != self.manifest.tuple_set:
            raise ArtefactError(
                f"the teacher scores belong to another tuple set ({self.manifest.tuple_set[:12]})", file=self.folder,
                expected=f"scores of this tuple set ({tuple_set.fingerprint[:12]})",
                fix="Run `pairstill annotate` on this tuple set",
            )  # fmt: skip

    @classmethod
    def load(cls, folder: str | Path) -> TeacherScores:
        """Read and check a folder of scores.

        Raises:
            ArtefactError: It is no scores folder, is unfinished, newer or damaged.
        """
        folder = Path(folder)
        body = read_manifest(folder, FORMAT, FORMAT_VERSION)
        path, fix = folder / MANIFEST, "Run the command that wrote it again"
        manifest = parse_body(ScoresManifest, body, path, "the manifest", fix)
        shards = parse_body(_Shards, body, path, "the manifest", fix).shards
        total = sum(one.rows for one in shards)
        rows, logits = scratch_array((total,), np.int64), scratch_array((total, manifest.outputs), np.float32)
        done = 0
        for one in shards:
            file, count = one.file, one.rows
            check_output(folder / file, one.bytes, one.sha256)
            table = read_parquet(folder / file)
            kind = (table.schema.metadata or {}).get(b"score_kind", b"").decode()
            if kind != manifest.score_kind:
                raise ArtefactError(
                    f"the shard holds scores of kind '{kind}'", file=folder / file,
                    expected=f"'{manifest.score_kind}', as the manifest says; kinds are not mixed",
                )  # fmt: skip
            expected = ["row", *manifest.fields, *(f"logit_{number}" for number in range(manifest.outputs))]
            if table.column_names != expected or table.num_rows != count:
                raise ArtefactError(
                    f"the shard has {table.num_rows} rows of {', '.join(table.column_names)}", file=folder / file,
                    expected=f"{count} rows of {', '.join(expected)}",
                )  # fmt: skip
            part = slice(done, done + count)
            rows[part] = table.column("row").to_numpy()
            for number in range(manifest.outputs):
                logits[part, number] = table.column(f"logit_{number}").to_numpy()
            done += count
        scores = cls(manifest, rows, logits, folder)
        _check(scores, folder)
        return scores

    @classmethod
    def load_joined(cls, folders: Sequence[str | Path], tuple_set: TupleSet) -> TeacherScores:
        """Scores of one teacher on a tuple set, from one folder or several (`concatenate`).

        Raises:
            ArtefactError: As `load` and `check_belongs_to`, about the folder that is wrong.
            InputError: The folders do not fit together.
        """
        parts = [cls.load(folder) for folder in folders]
        for part in parts:
            part.check_belongs_to(tuple_set)
        return cls.concatenate(parts)

    @classmethod
    def concatenate(cls, parts: Sequence[TeacherScores]) -> TeacherScores:
        """Scores of one teacher that lie in several folders, such as one per split.

        Raises:
            InputError: They are of different kinds, outputs, teachers or tuple sets, or two of them score the same row.
        """
        if not parts:
            raise InputError("no teacher scores are given", expected="at least one folder")
        first = parts[0].manifest
        for part in parts[1:]:
            for name, what in (
                ("score_kind", "kinds"), ("outputs", "numbers of outputs"), ("classes", "classes"),
                ("teachers", "teachers"), ("tuple_set", "tuple sets"),
            ):  # fmt: skip
                if getattr(first, name) != getattr(part.manifest, name):
                    combine = ", or make one teacher of them by `pairstill scores combine`"
                    raise InputError(
                        f"the teacher scores are of different {what}: {_shown(parts[0], name)} and {_shown(part, name)}",
                        expected="scores of one teacher on one tuple set",
                        fix=f"Leave one of them out{combine if name == 'teachers' else ''}",
                    )
        if len(parts) == 1:
            return parts[0]
        total = sum(len(part) for part in parts)
        rows, logits = scratch_array((total,), np.int64), scratch_array((total, parts[0].outputs), np.float32)
        done = 0
        for part in parts:
            for piece in pieces(len(part)):
                place = slice(done + piece.start, done + piece.stop)
                rows[place], logits[place] = part.rows[piece], part.logits[piece]
            done += len(part)
        splits = tuple(dict.fromkeys(split for part in parts for split in part.manifest.splits))
        manifest = replace(
            first,
            splits=splits if all(part.manifest.splits for part in parts) else (),
            truncated=sum(part.manifest.truncated for part in parts),
            precision=first.precision if len({part.manifest.precision for part in parts}) == 1 else None,
        )
        whole = cls(manifest, rows, logits)
        twice = whole.row_twice
        if twice is not None:
            where = [str(one.folder) for one in parts if one.folder is not None and (one.rows == twice).any()]
            raise InputError(
                f"two of the teacher-score folders score the same row of the tuple set, row {twice}"
                + (f": {' and '.join(where)}" if where else ""),
                expected="one score a row", fix="Leave one of the folders out",
            )  # fmt: skip
        return whole


def scores_table(tuple_set: TupleSet, rows: np.ndarray, logits: np.ndarray, kind: ScoreKind) -> pa.Table:
    """The table of one shard.

    Args:
        tuple_set: For the ids.
        rows: `(tuples,)` row numbers.
        logits: `(tuples, outputs)`.
        kind: Written into the file, so that shards of different kinds cannot be mixed.
    """
    columns: dict[str, Any] = {"row": pa.array(rows, pa.int64())}
    # Of the rows' neighbourhood alone: taking from a large column copies it whole.
    low, high = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
    near = tuple_set.tuples.select(list(tuple_set.field_names)).slice(low, high - low)
    taken = near.take(pa.array(rows - low))
    for name in tuple_set.field_names:
        columns[name] = taken.column(name).cast(pa.string())
    for number in range(logits.shape[1]):
        columns[f"logit_{number}"] = pa.array(np.ascontiguousarray(logits[:, number]), pa.float32())
    return pa.table(columns).replace_schema_metadata({"score_kind": kind})


def finish_scores(folder: Path, manifest: ScoresManifest, receipts: Sequence[Receipt]) -> TeacherScores:
    """Write the manifest over finished shards and load the scores."""
    write_manifest(
        folder, FORMAT, FORMAT_VERSION,
        {
            **asdict(manifest),
            "rows": sum(len(one.shard) for one in receipts),
            "shards": [
                {"file": one.file, "rows": len(one.shard), "bytes": one.bytes, "sha256": one.sha256} for one in receipts
            ],
        },
    )  # fmt: skip
    return TeacherScores.load(folder)


def _shown(scores: TeacherScores, name: str) -> str:
    """A value of the manifest as a message has it, and the folder that it is from."""
    value = getattr(scores.manifest, name)
    if name == "teachers":
        said = ", ".join(" ".join(filter(None, (one.name, one.fingerprint[:12], one.revision))) for one in value)
    else:
        said = repr(value[:12] if name == "tuple_set" else value)
    return said if scores.folder is None else f"{said} in {scores.folder}"


def _check(scores: TeacherScores, folder: Path) -> None:
    if scores.row_twice is not None:
        raise ArtefactError("two scores are of the same row of the tuple set", file=folder)
    for piece in pieces(len(scores)):
        bad = np.flatnonzero(~np.isfinite(scores.logits[piece]).all(axis=1))
        if len(bad):
            row = int(scores.rows[piece.start + bad[0]])
            raise ArtefactError(f"the score of row {row} of the tuple set is not finite", file=folder)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    """Stable for large absolute values."""
    powers = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, powers) / (1.0 + powers))
