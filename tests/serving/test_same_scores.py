"""The same pairs through `predict`, a bulk job and the running service."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bulk_samples import make_sample, write_pairs
from pairstill.export import export_onnx
from service_samples import Server, logits_of


def test_offline_and_online_scores_are_equal(base: Path, tmp_path: Path) -> None:
    sample = make_sample(base, tmp_path)
    places = write_pairs(sample, tmp_path / "pairs.parquet", 60)
    queries, items = sample.texts.values()
    predicted = logits_of(sample.student, [(queries[left], items[right]) for left, right in places])
    table = sample.run(tmp_path / "scores", pairs=str(tmp_path / "pairs.parquet"))
    np.testing.assert_allclose(np.asarray(table.column("score")), predicted, atol=1e-5)

    export_onnx(sample.student, tmp_path / "exported")
    stores = [
        part for place, folder in enumerate(sample.stores.values(), 1) for part in ("--store", f"{place}={folder}")
    ]
    ids = list(sample.ids.values())
    stored = [[{"id": ids[0][left]}, {"id": ids[1][right]}] for left, right in places]
    mixed = [[queries[left], {"id": ids[1][right]}] for left, right in places]
    texts = [[queries[left], {"text": items[right]}] for left, right in places]
    with Server(["--student", str(tmp_path / "exported"), *stores, "--batch-pairs", "64"]) as server:
        for rows in (stored, mixed, texts):
            answer = server.post("/v1/score", tuples=rows).raise_for_status().json()
            np.testing.assert_allclose(answer["scores"], predicted, atol=1e-5)
