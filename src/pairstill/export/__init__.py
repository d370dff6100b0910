"""Students in the formats of other libraries."""

from pairstill.export.sentence_transformers import ExportedScore, export_sentence_transformers
from pairstill.export.sentence_transformers_import import import_sentence_transformers

__all__ = ["ExportedScore", "export_sentence_transformers", "import_sentence_transformers"]
