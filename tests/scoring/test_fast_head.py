"""The fast heads give the training graph's logits, whatever stands beside a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.scoring.bulk.scorer import FastScorer
from pairstill.scoring.fast_head import FastHead, has_fast_form
from pairstill.store import write_store
from pairstill.students import make_student
from pairstill.students.dual_encoder import DualEncoder
from pairstill.students.heads.transformer import TransformerHead, TransformerHeadConfig
from pairstill.students.persistence import parse_config

ITEMS = 40
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "de-cos": ("de-cos", {}),
    "bert-dot": ("bert-dot", {}),
    "bert-dot as published": ("bert-dot", {"pooling": "cls", "projection": 8, "scaled": False}),
    "de-ffnn": ("de-ffnn", {}),
    "dipair-ffnn": ("dipair-ffnn", {"keep": [2, 4], "projection": 8, "head": {"widths": [16, 12, 8], "activation": "gelu"}}),
    "dipair-ffnn, one hidden layer": ("dipair-ffnn", {"keep": [3], "projection": 8, "head": {"widths": [16]}}),
    "dipair-tsf": ("dipair-tsf", {"keep": [2, 4], "projection": 16, "head": {"intermediate": 32}}),
    "dipair-tsf with erf-GELU": ("dipair-tsf", {"keep": [4, 12], "projection": 16, "similarity_skip": False, "head": {"activation": "gelu"}}),
    "dipair-tsf of three for classes": (
        "dipair-tsf", {"keep": [2, 3, 4], "projection": 16, "field_count": 3, "outputs": 4, "head": {"activation": "gelu_tanh"}},
    ),
    "twinbert-res": ("twinbert-res", {"head": {"width": 24}}),
    "twinbert-res of one layer": ("twinbert-res", {"similarity_skip": False, "head": {"depth": 1, "relu": False, "batch_norm": True}}),
    "twinbert-res, concatenated": ("twinbert-res", {"head": {"width": 24, "depth": 3, "combine": "concat", "batch_norm": True}}),
    "twinbert-res of three for classes": (
        "twinbert-res", {"field_count": 3, "outputs": 4, "pooling": "cls", "head": {"width": 24, "combine": "concat", "depth": 1}},
    ),
}  # fmt: skip


def build(base: Path, case: str) -> DualEncoder:
    name, values = CASES[case]
    torch.manual_seed(1)
    student = make_student(name, parse_config(name, {**values, "encoder": {"max_lengths": [16], "base": str(base)}}))
    assert isinstance(student, DualEncoder)
    with torch.no_grad():
        for parameter in student.new_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for norm in (one for one in student.modules() if isinstance(one, torch.nn.BatchNorm1d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return student.eval()


def items(student: DualEncoder, seed: int = 0) -> list[Representation[np.ndarray]]:
    """Vectors such as an encoder gives: zero past each length."""
    random = np.random.default_rng(seed)
    blocks = []
    for keep in student.keeps:
        slots = 1 if keep.pooled else keep.tokens
        lengths = random.integers(1, slots + 1, ITEMS)
        vectors = random.standard_normal((ITEMS, slots, student.dim)).astype(np.float32)
        vectors[np.arange(slots) >= lengths[:, None]] = 0
        similarity = random.standard_normal((ITEMS, 32)).astype(np.float32)
        own = student.skip is not None and keep.take != "mean"
        blocks.append(Representation(vectors, lengths, similarity if own else None))
    return blocks


def pairs(student: DualEncoder, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, ITEMS, (count, student.field_count))


@pytest.mark.parametrize("case", CASES)
def test_float32_is_the_training_graph(base: Path, case: str) -> None:
    student = build(base, case)
    blocks, index = items(student), pairs(student, 700)
    head = FastHead.of(student)
    fast = head.score([head.prepare(field, one) for field, one in enumerate(blocks)], index)
    np.testing.assert_allclose(fast, student.score_representations(blocks, index), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("case", CASES)
def test_a_pair_scores_the_same_to_the_bit_in_any_company(base: Path, case: str, precision: str) -> None:
    student = build(base, case)
    if precision == "int8" and not isinstance(student.head, TransformerHead):
        pytest.skip("this head has no 8-bit form")
    blocks, index = items(student), pairs(student, 9000)
    one, three = FastHead.of(student, precision, threads=1), FastHead.of(student, precision, threads=3)
    prepared = [one.prepare(field, block) for field, block in enumerate(blocks)]
    one.calibrate(prepared, index[:500])
    three.calibrate(prepared, index[:500])
    logits = one.score(prepared, index)
    np.testing.assert_array_equal(three.score(prepared, index), logits)
    order = np.random.default_rng(1).permutation(len(index))[:1300]
    np.testing.assert_array_equal(one.score(prepared, index[order]), logits[order])
    np.testing.assert_array_equal(one.score(prepared, index[77:78]), logits[77:78])
    some = np.random.default_rng(2).permutation(ITEMS)[:7]
    parts = [one.prepare(field, block.take(some)) for field, block in enumerate(blocks)]
    local = np.stack([np.arange(7)] * student.field_count, axis=1)
    np.testing.assert_array_equal(one.score(parts, local), one.score(prepared, some[local]))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize(
    "case",
    [
        "dipair-tsf",
        "dipair-tsf with erf-GELU",
        "dipair-tsf of three for classes",
        "twinbert-res",
        "twinbert-res, concatenated",
    ],
)
def test_lower_precisions_rank_alike(base: Path, case: str, precision: str) -> None:
    student = build(base, case)
    if precision == "int8" and not isinstance(student.head, TransformerHead):
        pytest.skip("this head has no 8-bit form")
    blocks, index = items(student), pairs(student, 2000)
    head = FastHead.of(student, precision)
    prepared = [head.prepare(field, one) for field, one in enumerate(blocks)]
    head.calibrate(prepared, index)
    fast, exact = head.score(prepared, index), student.score_representations(blocks, index)
    for output in range(student.outputs):
        assert kendalltau(fast[:, output], exact[:, output]).statistic > 0.97


def test_stored_precisions_are_taken_as_they_are(base: Path) -> None:
    student = build(base, "dipair-tsf")
    blocks, index = items(student), pairs(student, 50)
    head = FastHead.of(student)
    halves = [one.map(lambda array: torch.from_numpy(array).to(torch.bfloat16) if array.dtype == np.float32 else array) for one in blocks]  # fmt: skip
    widened = [one.map(lambda array: array.float().numpy() if isinstance(array, torch.Tensor) else array) for one in halves]  # fmt: skip
    scores = [
        head.score([head.prepare(field, one) for field, one in enumerate(kind)], index) for kind in (halves, widened)
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("case", CASES)
def test_blocks_of_a_ragged_store_may_be_narrower_than_the_slots(
    base: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = build(base, case)
    blocks, index = items(student), pairs(student, 200)
    stores = [
        write_store(
            tmp_path / f"{field}", lambda start, stop, block=block: block.take(slice(start, stop)), ITEMS,  # type: ignore[misc]
            encoder_fingerprint="any", field=f"{field}", stride="ragged",
        )
        for field, block in enumerate(blocks)
    ]  # fmt: skip
    head = FastHead.of(student)
    logits = head.score([head.prepare(field, one) for field, one in enumerate(blocks)], index)
    monkeypatch.setattr("pairstill.scoring.bulk.scorer.BLOCK_ITEMS", 1)
    scorer = FastScorer(head, stores, [False] * len(stores))
    prepared = [scorer.prepare(field, np.arange(ITEMS)) for field in range(len(stores))]
    np.testing.assert_array_equal(scorer.score(prepared, index), logits)
    for field, block in enumerate(blocks):
        shortest = np.flatnonzero(block.lengths == 1)
        narrow = stores[field].gather(shortest)
        assert narrow.vectors.shape[1] == 1
        found, expected = (head.arrays(head.prepare(field, one)) for one in (narrow, block.take(shortest)))
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_no_pairs_are_no_scores(base: Path) -> None:
    student = build(base, "dipair-tsf")
    head = FastHead.of(student)
    prepared = [head.prepare(field, one) for field, one in enumerate(items(student))]
    assert head.score(prepared, np.zeros((0, 2), np.int64)).shape == (0, 1)


def test_what_has_no_fast_form_is_refused(base: Path) -> None:
    deep = TransformerHead(TransformerHeadConfig(layers=3), [2, 2], 8, 1)
    assert not has_fast_form(deep)
    with pytest.raises(InputError, match="no fast form"):
        FastHead(deep)
    student = build(base, "de-ffnn")
    with pytest.raises(InputError, match="8-bit form"):
        FastHead.of(student, "int8")
    with pytest.raises(InputError, match="precision 'float16' is unknown"):
        FastHead.of(student, "float16")
    cross = make_student(
        "cross-encoder", parse_config("cross-encoder", {"encoder": {"base": str(base), "max_lengths": [16]}})
    )
    with pytest.raises(InputError, match="no head apart from its encoder"):
        FastHead.of(cross)


def test_an_item_without_tokens_is_refused(base: Path) -> None:
    student = build(base, "dipair-tsf")
    block = items(student)[0]
    block.lengths[3] = 0
    with pytest.raises(InputError, match="item 3 of the block keeps no token"):
        FastHead.of(student).prepare(0, block)


@pytest.mark.parametrize(("slots", "fast"), [([1024, 1024], True), ([1024, 1025], False)])
def test_pairs_of_very_many_slots(slots: list[int], fast: bool) -> None:
    """A pair must fit into one product; a head of longer ones has no fast form."""
    head = TransformerHead(TransformerHeadConfig(intermediate=8), slots, 8, 1).eval()
    assert has_fast_form(head) == fast
    if fast:
        torch.manual_seed(0)
        fields = [
            Representation(np.random.default_rng(0).normal(size=(2, one, 8)).astype(np.float32), np.full(2, one))
            for one in slots
        ]
        index = np.array([[0, 1], [1, 0]])
        made = FastHead(head)
        prepared = [made.prepare(field, one) for field, one in enumerate(fields)]
        assert np.isfinite(made.score(prepared, index)).all()
