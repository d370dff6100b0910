"""Every route of a running service, compared with the students in PyTorch."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from service_samples import ITEMS, Server, Shop, logits_of

QUERY = "w1 w2 w3"


def by_id(*ids: str) -> list[dict[str, str]]:
    return [{"id": one} for one in ids]


def test_scores_by_text_and_by_id(server: Server, shop: Shop) -> None:
    rows = [[QUERY, "w3 w9"], [QUERY, {"id": "p5"}], [{"text": "w7"}, {"text": "w9 w9 w2"}], ["", {"id": "p5"}]]
    answer = server.post("/v1/score", tuples=rows, timing=True).raise_for_status().json()
    five = shop.texts[5]
    expected = logits_of(shop.student, [(QUERY, "w3 w9"), (QUERY, five), ("w7", "w9 w9 w2"), ("", five)])
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert answer["model"].startswith("ranker@")
    assert {"queue", "tokenize", "encode", "gather", "prepare", "head", "total"} <= set(answer["timing_ms"])
    assert server.post("/v1/score", tuples=rows).json()["timing_ms"] is None


def test_ranks_documents_by_text_and_by_id(server: Server, shop: Shop) -> None:
    documents: list[Any] = ["w3 w9", *by_id("p5", "p7"), {"text": "w40"}]
    answer = server.post("/v1/rank", query=QUERY, documents=documents, return_texts=True).raise_for_status().json()
    texts = ["w3 w9", shop.texts[5], shop.texts[7], "w40"]
    logits = shop.logits(QUERY, texts)
    order = np.argsort(-logits, kind="stable")
    assert [one["index"] for one in answer["results"]] == order.tolist()
    np.testing.assert_allclose([one["logit"] for one in answer["results"]], logits[order], atol=1e-5)
    assert [one["text"] for one in answer["results"]] == [texts[place] for place in order]
    assert [one["id"] for one in answer["results"]] == [[None, "p5", "p7", None][place] for place in order]
    best = server.post("/v1/rank", query={"text": QUERY}, documents=documents, top_k=2).json()["results"]
    assert [one["index"] for one in best] == order[:2].tolist()
    assert [one["text"] for one in best] == [None, None]


def test_equal_documents_keep_their_order(server: Server) -> None:
    answer = server.post("/v1/rank", query=QUERY, documents=["w4 w5"] * 5).json()
    assert [one["index"] for one in answer["results"]] == list(range(5))


def test_searches_with_one_student_and_scores_with_another(server: Server, shop: Shop) -> None:
    answer = server.post("/v1/search", query=QUERY, top_k=5, candidates=20, teacher=True).raise_for_status().json()
    similar = logits_of(shop.searcher, [(QUERY, text) for text in shop.texts])
    found = np.argsort(-similar, kind="stable")[:20]
    logits = shop.logits(QUERY, [shop.texts[place] for place in found])
    best = found[np.argsort(-logits, kind="stable")[:5]]
    results = answer["results"]
    assert [one["id"] for one in results] == [shop.ids[place] for place in best]
    assert [one["text"] for one in results] == [shop.texts[place] for place in best]
    np.testing.assert_allclose(
        [one["logit"] for one in results], shop.logits(QUERY, [shop.texts[place] for place in best]), atol=1e-5
    )
    judged = logits_of(shop.teacher, [(QUERY, shop.texts[place]) for place in best])
    np.testing.assert_allclose([one["teacher_score"] for one in results], 1 / (1 + np.exp(-judged)), atol=1e-5)
    assert answer["candidates"] == 20
    assert {"search", "teacher", "gather", "head"} <= set(answer["timing_ms"])
    silent = server.post("/v1/search", query=QUERY, return_texts=False, teacher=True, timing=False, exact=True).json()
    assert len(silent["results"]) == 10
    assert {one["text"] for one in silent["results"]} == {None}
    assert None not in {one["teacher_score"] for one in silent["results"]}


def test_encodes(server: Server, shop: Shop) -> None:
    texts = ["w1", "w1 w2 w3 w4 w5 w6 w7"]
    answer = server.post("/v1/encode", field=2, texts=texts).raise_for_status().json()
    expected = shop.student.encode(1, texts)
    assert answer["lengths"] == expected.lengths.tolist()
    for place, length in enumerate(answer["lengths"]):
        np.testing.assert_allclose(answer["vectors"][place], expected.vectors[place, :length], atol=1e-5)


def test_tells_what_is_served(server: Server) -> None:
    answer = server.client.get("/v1/model").raise_for_status().json()
    assert answer["name"] == "bert2dnn"
    assert answer["stores"] == [{"field": 2, "items": ITEMS, "generation": answer["stores"][0]["generation"]}]
    assert answer["search_model"] == "de-cos"
    assert answer["limits"]["documents"] == 2000
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/ready").json() == {"status": "ready"}
    item = server.client.get("/v1/items/p3").raise_for_status().json()
    assert item["id"] == "p3"


def test_metrics_count_routes_and_not_paths(server: Server) -> None:
    server.client.get("/v1/items/p3")
    server.client.get("/v1/items/nothing-of-the-kind")
    text = server.client.get("/metrics").raise_for_status().text
    assert 'pairstill_requests_total{route="/v1/items/{id:path}",status="404"}' in text
    assert "nothing-of-the-kind" not in text
    assert f'pairstill_store_items{{store="field-2"}} {ITEMS}.0' in text
    for name in ("request_seconds_bucket", "batch_pairs_count", "stage_seconds_sum", "queue_pairs", "model_version"):
        assert f"pairstill_{name}" in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_speaks_coheres_api(server: Server, shop: Shop, version: str) -> None:
    texts = ["w3 w9", "w40", "w1 w2 w3"]
    answer = server.post(
        f"/{version}/rerank", model="rerank-v3.5", query=QUERY, documents=texts, top_n=2, return_documents=True,
        max_tokens_per_doc=4096, something_new=1,
    ).raise_for_status().json()  # fmt: skip
    logits = shop.logits(QUERY, texts)
    order = np.argsort(-logits, kind="stable")[:2]
    assert [one["index"] for one in answer["results"]] == order.tolist()
    np.testing.assert_allclose(
        [one["relevance_score"] for one in answer["results"]], 1 / (1 + np.exp(-logits[order])), atol=1e-5
    )
    assert [one["document"] for one in answer["results"]] == [{"text": texts[place]} for place in order]
    assert answer["id"]
    assert answer["meta"]["api_version"] == {"version": version[1]}
    plain = server.post(f"/{version}/rerank", query=QUERY, documents=texts).json()
    assert all("document" not in one for one in plain["results"])


def test_coheres_documents_may_be_objects(server: Server, shop: Shop) -> None:
    documents = [{"title": "w1", "text": "w9", "stock": 3}, {"title": "w3 w4", "text": "w9"}]
    answer = server.post(
        "/v1/rerank", query=QUERY, documents=documents, rank_fields=["title", "text"], return_documents=True
    )
    logits = shop.logits(QUERY, ["w1 w9", "w3 w4 w9"])
    results = sorted(answer.raise_for_status().json()["results"], key=lambda one: one["index"])
    np.testing.assert_allclose([one["relevance_score"] for one in results], 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert [one["document"] for one in results] == documents
    missing = server.post("/v1/rerank", query=QUERY, documents=["w1", {"title": "w1"}])
    assert missing.status_code == 422
    assert missing.json()["error"]["field"] == "documents.1"
    assert server.post("/v2/rerank", query=QUERY, documents=documents).status_code == 422
    assert server.post("/v2/rerank", query=QUERY, documents=["w1"], relevant_spans={}).status_code == 422


def test_speaks_text_embeddings_inference(server: Server, shop: Shop) -> None:
    texts = ["w3 w9", "w40", "w1 w2 w3"]
    logits = shop.logits(QUERY, texts)
    order = np.argsort(-logits, kind="stable")
    raw = server.post("/rerank", query=QUERY, texts=texts, raw_scores=True, return_text=True, truncate=True).json()
    assert [one["index"] for one in raw] == order.tolist()
    assert [one["text"] for one in raw] == [texts[place] for place in order]
    np.testing.assert_allclose([one["score"] for one in raw], logits[order], atol=1e-5)
    answer = server.post("/rerank", query=QUERY, texts=texts, truncation_direction="Right").json()
    assert set(answer[0]) == {"index", "score"}
    np.testing.assert_allclose([one["score"] for one in answer], 1 / (1 + np.exp(-logits[order])), atol=1e-5)
    assert server.post("/rerank", query=QUERY, texts=texts, truncation_direction="left").status_code == 422


BAD: list[tuple[str, Any, int, str | None]] = [
    ("/v1/rank", {"query": "w1", "documents": by_id("p1", "ghost", "p2", "spectre")}, 404, "documents"),
    ("/v1/rank", {"query": {"id": "p1"}, "documents": ["w1"]}, 422, "query"),
    ("/v1/rank", {"query": "w1", "documents": []}, 422, "documents"),
    ("/v1/rank", {"query": "w1", "documents": ["w1", 3]}, 422, "documents.1"),
    ("/v1/rank", {"query": "w1", "documents": ["w1", {}]}, 422, "documents.1"),
    ("/v1/rank", {"query": "w1", "documents": ["w1", {"text": "w1", "id": "p1"}]}, 422, "documents.1"),
    ("/v1/rank", {"query": "w1", "documents": ["w1"], "top_k": 0}, 422, "top_k"),
    ("/v1/rank", {"query": "w1", "documents": ["w1"], "top_k": 1.5}, 422, "top_k"),
    ("/v1/rank", {"query": "w1", "documents": ["w1"], "topk": 1}, 422, "topk"),
    ("/v1/rank", {"query": "w1"}, 422, "documents"),
    ("/v1/rank", {"query": "w1", "documents": ["w1"] * 2001}, 422, "documents"),
    ("/v1/rank", {"query": "w1", "documents": ["w1", "w" * 50_001]}, 422, "documents.1"),
    ("/v1/rank", ["w1"], 422, None),
    ("/v1/score", {"tuples": [["w1", "w2"], ["w1"]]}, 422, "tuples.1"),
    ("/v1/score", {"tuples": [["w1", {"id": "ghost"}]]}, 404, "tuples"),
    ("/v1/search", {"query": "w1", "candidates": 2001}, 422, "candidates"),
    ("/v1/search", {"query": "w1", "top_k": True}, 422, "top_k"),
    ("/v1/encode", {"field": 3, "texts": ["w1"]}, 422, "field"),
    ("/v1/encode", {"field": 1, "texts": ["w1"] * 65}, 422, "texts"),
    ("/v1/admin/swap", {"student": "/nowhere/at/all"}, 409, None),
    ("/v1/nothing", {}, 404, None),
    ("/health", {}, 405, None),
]


@pytest.mark.parametrize(("path", "body", "status", "field"), BAD)
def test_refuses_with_what_was_expected(server: Server, path: str, body: Any, status: int, field: str | None) -> None:
    answer = server.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "field", "expected", "fix"}
    assert error["message"]
    assert error["expected"] or error["fix"]
    if status != 409:
        assert error["field"] == field
    if status == 404 and "documents" in body:
        assert "'ghost', 'spectre'" in error["message"]


BROKEN: list[tuple[bytes, int]] = [
    (b"{", 400),
    (b'{"query": "w1", "documents": ["w1"], "top_k": NaN}', 400),
    (b'{"query": "w1", "documents": ["w1"], "top_k": -Infinity}', 400),
    (b'{"query": "\\ud800", "documents": ["w1"]}', 400),
    (b'{"query": "\xff", "documents": ["w1"]}', 400),
    (b"[" * 100_000, 400),
    (b'{"query": "w1", "documents": ' + b'{"text": ' * 5000 + b"1" + b"}" * 5000 + b"}", 400),
    (b'{"query": "w1", "documents": ["w1"], "top_k": ' + b"9" * 5000 + b"}", 400),
    (b'{"query": "w1", "documents": ["w1"], "top_k": 999999999999999999999}', 200),
    (b"", 422),
    (b"null", 422),
    (
        '{"query": "\\u0000\u202e\U0001f600\ufffe a\u0301", "documents": ["\\u0000", "", " ", "\U000e0001"]}'.encode(),
        200,
    ),
    (b'{"query": "w1", "documents": ["w1"]}', 200),
]


@pytest.mark.parametrize(("body", "status"), BROKEN)
def test_reads_json_strictly(server: Server, body: bytes, status: int) -> None:
    answer = server.client.post("/v1/rank", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["error"]["message"]


def test_refuses_what_is_not_declared_as_json(server: Server) -> None:
    body = b'{"query": "w1", "documents": ["w1"]}'
    for headers in ({"Content-Type": "text/plain"}, {}):
        answer = server.client.post("/v1/rank", content=body, headers=headers)
        assert answer.status_code == 415
        assert answer.json()["error"]["expected"] == "application/json"


def test_refuses_names_of_other_hosts(server: Server) -> None:
    for host, status in (("evil.example", 421), ("localhost:99", 200), ("127.0.0.1", 200), ("[::1]:5", 200)):
        assert server.client.get("/health", headers={"Host": host}).status_code == status


def test_describes_itself(server: Server) -> None:
    paths = server.client.get("/openapi.json").raise_for_status().json()["paths"]
    assert {
        "/v1/score",
        "/v1/rank",
        "/v1/search",
        "/v1/encode",
        "/v1/items",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
    } <= set(paths)
    assert "422" not in paths["/v1/rank"]["post"]["responses"]


def test_too_large_a_body_is_refused_before_it_has_come(server: Server) -> None:
    answer = server.client.post("/v1/rank", content=b" " * (5 << 20), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413

    def chunks() -> Any:
        for _ in range(80):
            yield b" " * (1 << 16)

    try:
        answer = server.client.post("/v1/rank", content=chunks(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
    except httpx.WriteError:
        pass  # the connection was closed while the client still wrote
    assert server.client.get("/health").status_code == 200
