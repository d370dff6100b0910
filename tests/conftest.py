from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pairstill.tuples import TupleSet
from tiny import tiny_base, tiny_image_base, tiny_tuple_set

torch.set_num_threads(1)
CHROMIUM = Path("/usr/bin/chromium")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()
