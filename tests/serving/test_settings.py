"""What a service may be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairstill.errors import InputError
from pairstill.serving.settings import API_KEY_VARIABLE, Limits, ServeSettings, Sources, is_loopback, read_api_key

SOURCES = Sources(Path("student"))


def test_only_this_machine_may_ask_without_a_key() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.0.1"):
        assert is_loopback(host)
        ServeSettings(SOURCES, host=host)
    for host in ("0.0.0.0", "::", "10.0.0.7", "ranker.example"):
        assert not is_loopback(host)
        with pytest.raises(InputError, match="--no-auth"):
            ServeSettings(SOURCES, host=host)
        ServeSettings(SOURCES, host=host, open_to_all=True)
        ServeSettings(SOURCES, host=host, api_key="long-enough")


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    assert read_api_key(file, {API_KEY_VARIABLE: "from-outside"}) == "from-the-file"
    assert read_api_key(None, {API_KEY_VARIABLE: "from-outside"}) == "from-outside"
    assert read_api_key(None, {}) is None
    for bad in ("", "short", "two words here", "zwölf-zeichen"):
        file.write_text(bad)
        with pytest.raises(InputError, match="cannot be used"):
            read_api_key(file, {})
        with pytest.raises(InputError, match="cannot be used"):
            read_api_key(None, {API_KEY_VARIABLE: bad})
    with pytest.raises(InputError, match="cannot be read"):
        read_api_key(tmp_path / "none", {})


@pytest.mark.parametrize(
    "wrong",
    [{"port": 65536}, {"threads": 0}, {"drain_s": -1.0}, {"drain_s": float("nan")}, {"query_cache_bytes": -1}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        ServeSettings(SOURCES, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"documents": 0},
        {"timeout_s": 0.0},
        {"timeout_s": float("inf")},
        {"batch_wait_ms": -1.0},
        {"body_bytes": 1 << 30},
    ],
)
def test_limits_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Limits(**wrong)  # type: ignore[arg-type]


def test_search_needs_both_a_student_and_a_store() -> None:
    with pytest.raises(InputError, match="--search-store"):
        Sources(Path("student"), search_student=Path("searcher"))
