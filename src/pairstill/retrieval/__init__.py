"""Search over stored vectors: exact, approximate, and late interaction.

What is offered here needs neither PyTorch nor numba; `pairstill.retrieval.search`, from a student's texts to a run, does.
"""

from pairstill.retrieval.approximate import ApproximateIndex, IndexSettings, build_index
from pairstill.retrieval.best import Found
from pairstill.retrieval.exact import exact_search
from pairstill.retrieval.vectors import StoredVectors

__all__ = ["ApproximateIndex", "Found", "IndexSettings", "StoredVectors", "build_index", "exact_search"]
