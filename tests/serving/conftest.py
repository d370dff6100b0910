from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service_samples import Server, Shop, open_shop


@pytest.fixture(scope="session")
def shop(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), base)


@pytest.fixture(scope="session")
def server(shop: Shop) -> Iterator[Server]:
    """One that tests ask and do not change."""
    with Server(shop.arguments) as server:
        yield server
