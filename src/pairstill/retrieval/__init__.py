"""Search over stored vectors: exact, approximate, and late interaction."""

from pairstill.retrieval.approximate import ApproximateIndex, IndexSettings, build_index
from pairstill.retrieval.best import Found
from pairstill.retrieval.exact import exact_search
from pairstill.retrieval.search import SearchSettings, search
from pairstill.retrieval.vectors import StoredVectors, similarity_of

__all__ = [
    "ApproximateIndex", "Found", "IndexSettings", "SearchSettings", "StoredVectors", "build_index", "exact_search", "search",
    "similarity_of",
]  # fmt: skip
