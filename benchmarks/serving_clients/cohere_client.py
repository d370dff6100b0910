"""Cohere's own Python client, both versions of its interface, against a running `pairstill serve`.

python -m venv clients && clients/bin/pip install cohere
clients/bin/python benchmarks/serving_clients/cohere_client.py http://127.0.0.1:8080
"""

import sys

import cohere

QUERY = "cordless drill"
DOCUMENTS = [
    "18-Volt lithium-ion cordless drill kit",
    "Garden hose, 50 ft.",
    "Drill bit set, 21 pieces",
    "White oak flooring",
]


def main(address: str, key: str = "none is needed here") -> None:
    second = cohere.ClientV2(api_key=key, base_url=address).rerank(
        model="served", query=QUERY, documents=DOCUMENTS, top_n=3
    )
    print("cohere", cohere.__version__, "ClientV2.rerank")
    for one in second.results:
        print(f"  {one.relevance_score:.6f}  {DOCUMENTS[one.index]}")
    first = cohere.Client(api_key=key, base_url=address).rerank(
        model="served", query=QUERY, documents=DOCUMENTS, top_n=3, return_documents=True
    )
    print("Client.rerank")
    for one in first.results:
        print(f"  {one.relevance_score:.6f}  {one.document.text}")
    same = [one.relevance_score for one in second.results] == [one.relevance_score for one in first.results]
    print("the same scores:", same)
    raise SystemExit(0 if same and len(first.results) == 3 else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
