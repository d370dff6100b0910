"""Heads of published shapes are measured: the keys, the yardsticks, and one run through the command line."""

from __future__ import annotations

import json

import pytest

from command_line import pairstill, works
from pairstill.evaluation.head_benchmark import benchmark_head, named_setting

KEYS = {
    "pairs_per_s", "precision", "peak_flops", "fraction_of_peak", "speedup_vs_plain_head", "speedup_vs_bert_base_float32",
    "speedup_vs_fastest_bert_base", "kendall_tau_vs_float32",
}  # fmt: skip
NAMES = (
    "p2t", "q2p", "dipair-ffnn", "de-ffnn", "de-cos", "twinbert-res", "bert-dot", "bert2dnn", "poly-encoder", "colbert", "tk"
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairstill.evaluation.head_benchmark.matrix_peak", lambda precision: 1e12)
    setting = named_setting(name, items=16)
    assert setting.runs_fast
    body = benchmark_head(setting, pairs=64, seconds=0.01, bert_base="none", precisions=["float32"])
    assert set(body) >= KEYS
    assert body["fraction_of_peak"] == pytest.approx(2 * setting.multiply_adds * body["pairs_per_s"] / 1e12, abs=1e-4)
    assert body["kendall_tau_vs_float32"] == 1


def test_the_yardsticks_are_the_papers() -> None:
    assert named_setting("p2t", items=1).multiply_adds == pytest.approx(6.13e6, rel=0.01)
    assert named_setting("q2p", items=1).multiply_adds == pytest.approx(11.75e6, rel=0.01)


def test_from_the_command_line() -> None:
    common = (
        "bench",
        "head",
        "--bert-base",
        "none",
        "--seconds",
        0.1,
        "--pairs",
        1024,
        "--items",
        16,
        "--threads",
        1,
        "--json",
    )
    assert set(json.loads(works(*common, "de-cos"))) >= KEYS
    for arguments, message in (
        (("p3t",), "the setting 'p3t' is unknown. Expected: p2t"),
        ((), "give one of a setting and --student"),
    ):
        done = pairstill(*common, *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
