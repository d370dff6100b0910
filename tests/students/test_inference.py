"""Blocks on threads of their own, and narrow copies."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from pairstill.errors import InputError
from pairstill.students.cross_encoder import CrossEncoder
from pairstill.students.inference import map_blocks, with_precision
from tiny import FAMILIES, WORDS, tiny_base


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_blocks_keep_their_order_and_each_thread_is_alone() -> None:
    seen = set()

    def work(block: int) -> tuple[int, int]:
        seen.add(threading.get_ident())
        assert torch.is_inference_mode_enabled()
        return block, torch.get_num_threads()

    assert list(map_blocks(work, range(50))) == [(number, 1) for number in range(50)]
    assert threading.get_ident() not in seen
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_single_block_has_all_threads() -> None:
    assert list(map_blocks(lambda block: (block, torch.get_num_threads()), [7])) == [(7, 2)]
    assert list(map_blocks(lambda block: (block, torch.get_num_threads()), [7, 8], threads=1)) == [(7, 2), (8, 2)]
    assert list(map_blocks(lambda block: block, [])) == []


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_block_reaches_the_caller_and_threads_are_given_back() -> None:
    def work(block: int) -> int:
        if block == 3:
            raise ValueError("block three")
        return block

    with pytest.raises(ValueError, match="block three"):
        list(map_blocks(work, range(100)))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrow_copy_scores_alike_and_leaves_the_original(family: str, tmp_path: Path) -> None:
    wide = CrossEncoder.from_sequence_classification(
        str(tiny_base(tmp_path / "base", family)), outputs=3, max_length=16
    ).eval()
    narrow = with_precision(wide, lambda one: one.transformers(), "bfloat16")
    assert {one.dtype for one in wide.parameters()} == {torch.float32}
    assert {one.dtype for one in narrow.parameters()} == {torch.float32, torch.bfloat16}
    assert next(iter(narrow.transformers())).dtype == torch.bfloat16
    generator = np.random.default_rng(0)
    pairs = [(" ".join(generator.choice(WORDS, 5)), " ".join(generator.choice(WORDS, 5))) for _ in range(8)]
    scores = [np.asarray(one.predict(pairs, activation_fn=torch.nn.Identity())) for one in (wide, narrow)]
    assert scores[1].dtype == np.float32
    np.testing.assert_allclose(scores[1], scores[0], atol=0.05)
    assert wide.with_precision("float32") is wide


def test_a_narrow_copy_is_kept_until_a_weight_changes(tmp_path: Path) -> None:
    student = CrossEncoder.from_sequence_classification(str(tiny_base(tmp_path / "base", "bert")), max_length=16).eval()
    names = list(student.state_dict())
    narrow = student.with_precision("bfloat16")
    assert student.with_precision("bfloat16") is narrow
    assert list(student.state_dict()) == names
    with torch.no_grad():
        next(iter(student.transformers()[0].parameters())).mul_(2)
    again = student.with_precision("bfloat16")
    assert again is not narrow
    student.load_state_dict(student.state_dict())
    assert student.with_precision("bfloat16") is not again


def test_another_precision_is_refused(tmp_path: Path) -> None:
    model = CrossEncoder.from_sequence_classification(str(tiny_base(tmp_path / "base", "bert")), max_length=16)
    with pytest.raises(InputError, match=r"'float16' is unknown.*float32 or bfloat16"):
        model.with_precision("float16")
