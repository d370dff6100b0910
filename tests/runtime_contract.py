"""What holds of every exported student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pairstill.errors import ArtefactError
from pairstill.runtime import RuntimeStudent
from pairstill.scoring.encode import EncodeSettings, encode_store
from pairstill.store import RepresentationStore
from pairstill.students import Student
from student_cases import tuples_for


def check(student: Student, folder: Path, stores: Path) -> None:
    """The contract of the three steps, without PyTorch."""
    found = RuntimeStudent.open(folder, threads=2)
    assert (found.name, found.field_count, found.outputs) == (student.name, student.field_count, student.outputs)
    assert (found.max_lengths, found.single_vector) == (student.max_lengths, student.single_vector)
    assert found.similarity == student.similarity()
    tuples = tuples_for(student)
    expected = student.score_texts(tuples)
    np.testing.assert_allclose(found.score_texts(tuples), expected, rtol=1e-5, atol=1e-5)
    alone = np.concatenate([found.score_texts([one]) for one in tuples])
    np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-5, err_msg="scores depend on the other rows")

    prepared = []
    for field in range(student.field_count):
        texts = [one[field] for one in tuples]
        here, there = found.encode(field, texts), student.encode(field, texts)
        np.testing.assert_array_equal(here.lengths, there.lengths)
        valid = np.arange(there.vectors.shape[1]) < there.lengths[:, None]
        np.testing.assert_allclose(here.vectors[valid], there.vectors[valid], atol=1e-5)
        for name in ("similarity", "scalars"):
            one, other = getattr(here, name), getattr(there, name)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, other, atol=1e-5)
        folder_of_field = stores / str(field)
        encode_store(
            student, field, [f"t{row}" for row in range(4)], texts, folder_of_field, "field", EncodeSettings("float32")
        )
        store = RepresentationStore.open(folder_of_field, found.encoder_fingerprints[field])
        prepared.append(found.prepare(field, store.gather(store.find(["t2", "t0", "t1", "t3"]))))
    places = np.array([2, 0, 1, 3])
    rows = np.stack([np.repeat(np.arange(4), 4), *[np.tile(np.arange(4), 4)] * (student.field_count - 1)], axis=1)
    crossed = [tuple(tuples[places[row]][field] for field, row in enumerate(one)) for one in rows]
    np.testing.assert_allclose(found.score(prepared, rows), student.score_texts(crossed), rtol=1e-5, atol=1e-5)
    with pytest.raises(ArtefactError, match="another encoder"):
        RepresentationStore.open(stores / "0", "0" * 64)
