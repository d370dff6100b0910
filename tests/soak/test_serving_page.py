"""The page of a real service in Chromium: search, edits, a swap; pictures of it in the dark, in the light, and narrow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from service_samples import ITEMS, Server, Shop, open_shop

pytestmark = pytest.mark.soak
FOLDER_VARIABLE = "PAIRSTILL_SCREENSHOTS"
"""Where the pictures are to stay; without it they go with the test's folder."""


@pytest.fixture(scope="module")
def shop(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), base)


def test_the_page_of_a_real_service(shop: Shop, browser: Any, tmp_path: Path) -> None:
    pictures = Path(os.environ.get(FOLDER_VARIABLE) or tmp_path / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    with Server(shop.arguments) as server:
        for name, scheme, width in (("light", "light", 1000), ("dark", "dark", 1000), ("narrow", "light", 360)):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=server.address
            )
            page = context.new_page()
            page.set_default_timeout(60_000)
            said: list[str] = []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto("/")
            page.wait_for_selector(f"text={ITEMS} items")
            page.fill("#query", "w1 w2 w3")
            page.keyboard.press("Enter")
            page.wait_for_selector("text=10 results of 100 candidates")
            answer = server.post(
                "/v1/search", query="w1 w2 w3", top_k=10, candidates=100, teacher=True
            ).raise_for_status()
            expected = answer.json()["results"]
            assert page.locator("#results .name").all_inner_texts() == [one["id"] for one in expected]
            assert page.locator("#results .text").all_inner_texts() == [one["text"] for one in expected]
            assert page.locator("#results .meter.teacher").count() == 10
            assert page.locator("#stages div").count() >= 5
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("#trouble").is_hidden()
            page.screenshot(path=str(pictures / f"{name}.png"), full_page=True)
            assert said == []
            context.close()
        context = browser.new_context(base_url=server.address)
        page = context.new_page()
        page.set_default_timeout(60_000)
        # What is put now is found by the page that was open before.
        page.goto("/")
        page.wait_for_selector("#query:visible")
        server.client.put("/v1/items", json={"items": [{"id": "<new>", "text": "w7 w8 w9 <b>"}]}).raise_for_status()
        page.fill("#query", "w7 w8 w9 <b>")
        page.fill("#top", "100")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=<new>")
        page.evaluate("document.querySelector('#query').removeAttribute('maxlength')")
        page.fill("#query", "w" * 50_001)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=The text has 50,001 characters.")
        context.close()
    assert {one.name for one in pictures.iterdir()} >= {"light.png", "dark.png", "narrow.png"}
    assert all(one.stat().st_size > 5000 for one in pictures.glob("*.png"))
