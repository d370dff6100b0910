from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pairstill.tuples import TupleSet
from tiny import tiny_base, tiny_image_base, tiny_tuple_set

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in a folder."""
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def image_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer in a folder."""
    return tiny_image_base(tmp_path_factory.mktemp("image-base"))


@pytest.fixture(scope="session")
def tuple_set() -> TupleSet:
    """400 labelled pairs of tiny texts."""
    return tiny_tuple_set()
