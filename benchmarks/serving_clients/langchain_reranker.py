"""LangChain's `CohereRerank` compressor against a running `pairstill serve`.

python -m venv clients && clients/bin/pip install langchain-cohere
clients/bin/python benchmarks/serving_clients/langchain_reranker.py http://127.0.0.1:8080
"""

import sys
from importlib.metadata import version

from langchain_cohere import CohereRerank
from langchain_core.documents import Document

QUERY = "cordless drill"
DOCUMENTS = [
    "18-Volt lithium-ion cordless drill kit",
    "Garden hose, 50 ft.",
    "Drill bit set, 21 pieces",
    "White oak flooring",
]


def main(address: str, key: str = "none is needed here") -> None:
    reranker = CohereRerank(cohere_api_key=key, base_url=address, model="served", top_n=3)
    kept = reranker.compress_documents([Document(page_content=one) for one in DOCUMENTS], QUERY)
    print("langchain-cohere", version("langchain-cohere"), "CohereRerank.compress_documents")
    for one in kept:
        print(f"  {one.metadata['relevance_score']:.6f}  {one.page_content}")
    raise SystemExit(0 if len(kept) == 3 else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
