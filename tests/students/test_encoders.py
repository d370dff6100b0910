"""What an encoder keeps, against the base run plainly; the store in between; the similarity skip's formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from pairstill.store import RepresentationStore, write_store
from pairstill.students import Student, make_student
from pairstill.students.dual_encoder import DualEncoder
from pairstill.students.heads.similarity_skip import SimilaritySkip
from pairstill.students.persistence import parse_config
from tiny import FAMILIES, WORDS, tiny_base

TEXTS = ["w1 w2 w3", "w4", " ".join(WORDS), "", "w9 w8 w7 w6 w5"]
MAX_LENGTH = 12


def student(base: Path, name: str, **values: Any) -> DualEncoder:
    encoder = {"base": str(base), "max_lengths": [MAX_LENGTH], **values.pop("encoder", {})}
    if name.startswith("dipair"):
        values.setdefault("keep", [4, 8])
    torch.manual_seed(0)
    made = make_student(name, parse_config(name, {**values, "encoder": encoder})).eval()
    assert isinstance(made, DualEncoder)
    return made


def hidden_states(base: Path, model: Student, layers: int) -> list[np.ndarray]:
    """Hidden states after `layers` layers of each text alone, by the attention of `transformers`."""
    plain = AutoModel.from_pretrained(base, attn_implementation="eager").eval()
    out = []
    for text in TEXTS:
        ids = model.tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            states = plain(input_ids=ids, output_hidden_states=True).hidden_states
        out.append(states[layers][0].numpy())
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_the_first_layers_of_the_base(family: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path, family)
    for layers in (1, 3):
        keep = {"keep": [4], "projection": None, "similarity_skip": True, "encoder": {"layers": layers}}
        first, last = student(base, "dipair-ffnn", **keep), student(base, "dipair-ffnn", **keep, keep_from="last")
        mean, cls = (student(base, "de-cos", pooling=one, encoder={"layers": layers}) for one in ("mean", "cls"))
        expected = hidden_states(base, first, layers)
        got = {"first": first, "last": last, "mean": mean, "cls": cls}
        kept = {name: one.encode(0, TEXTS) for name, one in got.items()}
        for row, states in enumerate(expected):
            count = min(len(states), 4)
            for name, wanted in (("first", states[:count]), ("last", states[-count:])):
                np.testing.assert_allclose(kept[name].vectors[row, :count], wanted, atol=2e-5)
                assert not kept[name].vectors[row, count:].any(), "slots past a text's end are zero"
                assert kept[name].lengths[row] == count
                np.testing.assert_allclose(kept[name].similarity[row], states.mean(axis=0), atol=2e-5)
            np.testing.assert_allclose(kept["mean"].vectors[row, 0], states.mean(axis=0), atol=2e-5)
            np.testing.assert_allclose(kept["cls"].vectors[row, 0], states[0], atol=2e-5)


@pytest.mark.parametrize("name", ["de-cos", "de-ffnn", "dipair-ffnn", "dipair-tsf"])
def test_encoders_and_projections_are_shared_or_not(base: Path, name: str) -> None:
    one, two = student(base, name), student(base, name, encoder={"shared": False})
    assert (len(one.encoders), len(two.encoders)) == (1, 2)
    assert len(list(two.encoders.parameters())) == 2 * len(list(one.encoders.parameters()))
    with torch.no_grad():
        next(two.encoder(1).parameters()).add_(1.0)
    left, right = (two.encode(field, TEXTS).vectors[:, 0] for field in (0, 1))
    assert not np.allclose(left, right)
    old = {id(parameter) for parameter in two.encoders.parameters()}
    assert not old & {id(parameter) for parameter in two.new_parameters()}
    if name.startswith("dipair"):
        shared = student(base, name, shared_projection=True, keep=[3])
        apart = student(base, name, shared_projection=False, keep=[3])
        assert (len(shared.projections), len(apart.projections)) == (1, 2)
        np.testing.assert_array_equal(shared.encode(0, TEXTS).vectors, shared.encode(1, TEXTS).vectors)
        assert not np.allclose(apart.encode(0, TEXTS).vectors, apart.encode(1, TEXTS).vectors)


@pytest.mark.parametrize("name", ["cross-encoder", "de-cos", "de-ffnn", "dipair-ffnn", "dipair-tsf"])
def test_scores_survive_the_store(base: Path, name: str, tmp_path: Path) -> None:
    encoder = {"base": str(base), "max_lengths": [MAX_LENGTH]}
    keep = {"keep": [4, 8]} if name.startswith("dipair") else {}
    model = make_student(name, parse_config(name, {"encoder": encoder, **keep})).eval()
    encoded = [model.encode(field, TEXTS) for field in range(2)]
    index = np.array([[0, 4], [2, 2], [3, 1], [1, 3]])
    expected = model.score_representations(encoded, index)
    for field, one in enumerate(encoded):
        write_store(
            tmp_path / str(field), lambda start, stop, one=one: one.take(np.arange(start, stop)), len(TEXTS),
            encoder_fingerprint="f", field=str(field), dtype="float32",
        )  # fmt: skip
    stores = [RepresentationStore.open(tmp_path / str(field), "f") for field in range(2)]
    gathered = [store.gather(np.arange(len(TEXTS))) for store in stores]
    np.testing.assert_allclose(model.score_representations(gathered, index), expected, atol=1e-6)


def test_texts_are_encoded_alike_in_any_company_and_order(base: Path) -> None:
    model = student(base, "dipair-tsf", keep=[4])
    together = model.encode(0, TEXTS, batch_size=2)
    backwards = model.encode(0, TEXTS[::-1])
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(together.vectors[row], model.encode(0, [text]).vectors[0], atol=1e-5)
    np.testing.assert_allclose(together.vectors, backwards.vectors[::-1], atol=1e-5)


def test_progress_counts_every_text(base: Path) -> None:
    seen: list[tuple[int, int]] = []
    student(base, "de-cos").encode(0, TEXTS, batch_size=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert seen == sorted(seen)


@pytest.mark.parametrize(("fields", "outputs"), [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_similarity_skip(fields: int, outputs: int) -> None:
    torch.manual_seed(0)
    skip = SimilaritySkip(fields, outputs)
    with torch.no_grad():
        skip.scale.normal_()
        skip.bias.normal_()
    vectors = [torch.randn(4, 7) for _ in range(fields)]
    index = torch.randint(0, 4, (6, fields))
    got = skip([{"similarity": skip.prepare(one)} for one in vectors], index).detach().numpy()
    for row, places in enumerate(index.tolist()):
        chosen = [vectors[field][place].numpy() for field, place in enumerate(places)]
        expected, pair = skip.bias.detach().numpy().copy(), 0
        for a in range(fields):
            for b in range(a + 1, fields):
                cosine = chosen[a] @ chosen[b] / np.linalg.norm(chosen[a]) / np.linalg.norm(chosen[b])
                expected += cosine * skip.scale.detach().numpy()[pair]
                pair += 1
        np.testing.assert_allclose(got[row], expected, atol=1e-5)
