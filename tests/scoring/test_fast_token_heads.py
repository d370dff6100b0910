"""Fast forms of heads over token vectors: the training graph's logits, to the bit in any company, from ragged stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pairstill.representation import Representation
from pairstill.scoring.fast_head import FastHead, has_fast_form
from pairstill.students.heads.base import Head
from pairstill.students.heads.kernel_pooling import KernelHead
from pairstill.students.heads.max_sim import MaxSimHead
from pairstill.students.heads.poly import PolyHead

ITEMS, DIM = 40, 24
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "MaxSim": (MaxSimHead, {}),
    "MaxSim of cosines": (MaxSimHead, {"normalise": True, "scaled": False}),
    "kernels": (KernelHead, {}),
    "kernels without the second sum": (KernelHead, {"length_normalised": False}),
    "poly": (PolyHead, {"output_scaling": 0.3}),
    "poly, scaled attention": (PolyHead, {"scaled_attention": True, "scaled": False}),
}  # fmt: skip


def build(case: str) -> Head:
    kind, values = CASES[case]
    torch.manual_seed(0)
    head: Head = kind(7, DIM, **values) if kind is PolyHead else kind((7, 13), DIM, **values)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    return head.eval()


def items(head: Head) -> list[Representation[np.ndarray]]:
    random, blocks = np.random.default_rng(0), []
    for slots in (7, 1) if isinstance(head, PolyHead) else (7, 13):
        lengths = random.integers(1, slots + 1, ITEMS)
        vectors = random.standard_normal((ITEMS, slots, DIM)).astype(np.float32)
        vectors[np.arange(slots) >= lengths[:, None]] = 0
        blocks.append(Representation(vectors, lengths))
    return blocks


def exact(head: Head, blocks: list[Representation[np.ndarray]], index: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        prepared = [
            head.prepare(field, torch.from_numpy(one.vectors), torch.from_numpy(one.lengths))
            for field, one in enumerate(blocks)
        ]
        return head.score(prepared, torch.from_numpy(index)).numpy()


@pytest.mark.parametrize("case", CASES)
def test_float32_is_the_training_graph(case: str) -> None:
    head = build(case)
    assert has_fast_form(head)
    blocks, index = items(head), np.random.default_rng(1).integers(0, ITEMS, (500, 2))
    fast = FastHead(head)
    found = fast.score([fast.prepare(field, one) for field, one in enumerate(blocks)], index)
    np.testing.assert_allclose(found, exact(head, blocks, index), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ["MaxSim", "kernels", "poly"])
def test_a_pair_scores_the_same_to_the_bit_in_any_company(case: str, precision: str) -> None:
    head = build(case)
    blocks, index = items(head), np.random.default_rng(2).integers(0, ITEMS, (9000, 2))
    one, three = FastHead(head, None, precision, threads=1), FastHead(head, None, precision, threads=3)
    prepared = [one.prepare(field, block) for field, block in enumerate(blocks)]
    logits = one.score(prepared, index)
    np.testing.assert_array_equal(three.score(prepared, index), logits)
    order = np.random.default_rng(1).permutation(len(index))[:1300]
    np.testing.assert_array_equal(one.score(prepared, index[order]), logits[order])
    some = np.random.default_rng(3).permutation(ITEMS)[:7]
    parts = []
    for field, block in enumerate(blocks):
        part = block.take(some)
        # As wide as the longest of them, which is what a ragged store hands over.
        width = int(part.lengths.max())
        parts.append(one.prepare(field, Representation(part.vectors[:, :width], part.lengths)))
    local = np.stack([np.arange(7)] * 2, axis=1)
    np.testing.assert_array_equal(one.score(parts, local), one.score(prepared, some[local]))


@pytest.mark.parametrize("case", ["MaxSim", "kernels", "poly"])
def test_bfloat16_ranks_alike(case: str) -> None:
    head = build(case)
    blocks, index = items(head), np.random.default_rng(4).integers(0, ITEMS, (800, 2))
    fast = FastHead(head, None, "bfloat16")
    found = fast.score([fast.prepare(field, one) for field, one in enumerate(blocks)], index)[:, 0]
    assert np.corrcoef(found, exact(head, blocks, index)[:, 0])[0, 1] > 0.99


@pytest.mark.parametrize("case", ["MaxSim", "poly"])
def test_what_is_prepared_comes_back_from_its_arrays(case: str) -> None:
    head = build(case)
    blocks, index = items(head), np.random.default_rng(5).integers(0, ITEMS, (50, 2))
    fast = FastHead(head)
    prepared = [fast.prepare(field, one) for field, one in enumerate(blocks)]
    again = [fast.from_arrays(fast.arrays(one), blocks[field].lengths) for field, one in enumerate(prepared)]
    np.testing.assert_array_equal(fast.score(again, index), fast.score(prepared, index))
