"""Rates of a student on this machine, measured by running it: a few items encoded, a small bulk job, one worker."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pairstill.errors import InputError
from pairstill.files import write_parquet
from pairstill.jobs import ProcessEngine
from pairstill.representation import Representation
from pairstill.scoring.bulk.job import run_bulk
from pairstill.scoring.bulk.keep import Keep
from pairstill.scoring.bulk.plan import BulkJob, plan_bulk
from pairstill.scoring.forecast import Kind, Rates, rates_of_job
from pairstill.store import write_store
from pairstill.students import load_student
from pairstill.students.base import Student
from pairstill.students.fingerprints import representation_fingerprint

LEFT, RIGHT = 128, 4096
ENCODED = 512


def measure_rates(
    student: str,
    kind: Kind,
    *,
    texts: Sequence[Sequence[Any]] | None = None,
    lengths: Sequence[int] = (),
    top: int | None = None,
    precision: str = "auto",
    encoder_precision: str = "float32",
    dtype: str = "float32",
    pairs: int = LEFT * RIGHT,
    seed: int = 0,
) -> Rates:
    """Encode 512 items a field and score half a million pairs, as `encode` and `score` would.

    Args:
        student: Folder.
        kind: `cross` or `pairs`: rates of reading by id differ.
        texts: Items of each field, to draw from; None makes texts of random words.
        lengths: Of such made texts, tokens a field.
        top: As in the job.
        precision: Of the head.
        encoder_precision: Of the encoder.
        dtype: Of the stores.
        pairs: About how many are scored.
        seed: Of what is drawn.

    Raises:
        InputError: Neither texts nor lengths are given for every field.
    """
    model, random = load_student(student), np.random.default_rng(seed)
    if texts is None and len(lengths) != model.field_count:
        raise InputError(
            f"lengths are given for {len(lengths)} fields",
            expected=f"{model.field_count}: tokens of a text of each field",
        )
    if texts is None and any(one != "text" for one in model.kinds):
        raise InputError(
            f"the student reads {' and '.join(model.kinds)}, and only texts can be made up", fix="Give --tuples"
        )
    encode_s: list[float | None] = []
    with tempfile.TemporaryDirectory(prefix="pairstill-") as name:
        folder = Path(name)
        stores, known = dict[str, str](), dict[str, list[str]]()
        for field in range(model.field_count):
            drawn = (
                _made(model, lengths[field], random)
                if texts is None
                else [texts[field][row] for row in random.integers(0, len(texts[field]), ENCODED)]
            )
            model.encode(field, drawn[:16], precision=encoder_precision)
            began = time.perf_counter()
            block = model.encode(field, drawn, precision=encoder_precision)
            encode_s.append((time.perf_counter() - began) * torch.get_num_threads() / len(drawn))
            count = LEFT if field == 0 and kind == "cross" else RIGHT
            known[f"field-{field}"] = _ids(random, count)
            write_store(
                folder / f"store-{field}", _repeated(block), count,
                encoder_fingerprint=representation_fingerprint(model, field), field=f"field-{field}", dtype=dtype,
                stride="ragged" if model.kept_vectors(field) is None else "fixed", ids=known[f"field-{field}"],
            )  # fmt: skip
            stores[f"field-{field}"] = str(folder / f"store-{field}")
        address = None
        if kind == "pairs":
            drawn_ids = {
                one: pa.array(ids).take(pa.array(random.integers(0, RIGHT, pairs))) for one, ids in known.items()
            }
            write_parquet(folder / "pairs.parquet", pa.table(drawn_ids))
            address = str(folder / "pairs.parquet")
        keep = Keep.of(top if top is None else min(top, RIGHT))
        job = BulkJob(student, stores, folder / "job", address, keep=keep, precision=precision, output=0)
        run_bulk(plan_bulk(job), ProcessEngine(1))
        return replace(
            rates_of_job(folder / "job"), encode_s=tuple(encode_s), source=f"{student}, measured here in one worker"
        )


def _repeated(block: Representation[np.ndarray]) -> Callable[[int, int], Representation[np.ndarray]]:
    return lambda start, stop: block.take(np.arange(start, stop) % len(block))


def _ids(random: np.random.Generator, count: int) -> list[str]:
    """Ids of 16 characters that do not compress."""
    return [f"{one:016x}" for one in np.unique(random.integers(0, 2**63, 2 * count))[:count]]


def _made(model: Student, length: int, random: np.random.Generator) -> list[str]:
    """Texts of random words, `length` tokens each, special ones counted."""
    words = sorted(one for one in model.tokenizer.get_vocab() if one.isalpha() and one.islower()) or ["a"]
    wanted = max(1, length - 2)
    return [" ".join(words[place] for place in random.integers(0, len(words), wanted)) for _ in range(ENCODED)]
