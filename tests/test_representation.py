"""Blocks of items of different widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pairstill.representation import Representation, concatenate


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3)])
@pytest.mark.parametrize("tensors", [False, True])
def test_padding_puts_zeros_behind_and_touches_nothing_else(shape: tuple[int, ...], tensors: bool) -> None:
    vectors = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    block = Representation(vectors, np.array([3, 2]), np.ones((2, 5), np.float32))
    wide = (block.map(torch.from_numpy) if tensors else block).padded(5)
    assert type(wide.vectors) is (torch.Tensor if tensors else np.ndarray)
    assert tuple(wide.vectors.shape) == (2, 5, *shape[2:])
    np.testing.assert_array_equal(np.asarray(wide.vectors)[:, :3], vectors)
    assert not np.asarray(wide.vectors)[:, 3:].any()
    np.testing.assert_array_equal(np.asarray(wide.lengths), block.lengths)
    np.testing.assert_array_equal(np.asarray(wide.similarity), block.similarity)
    assert block.padded(3) is block
    assert block.padded(1) is block


def test_blocks_of_8_bits_are_joined_with_their_scales() -> None:
    blocks = [
        Representation(np.full((1, width, 2), width, np.int8), np.array([width]), scales=np.full((1, width), 0.5))
        for width in (1, 3)
    ]
    both = concatenate(blocks)
    assert both.vectors[:, :, 0].tolist() == [[1, 0, 0], [3, 3, 3]]
    assert both.scales is not None
    assert both.scales.tolist() == [[0.5, 0, 0], [0.5, 0.5, 0.5]]
    assert both.lengths.tolist() == [1, 3]
