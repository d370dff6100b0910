"""Students in the formats of other libraries, and for serving without PyTorch."""

from pairstill.export.onnx_folder import OnnxExport, export_onnx
from pairstill.export.sentence_transformers import ExportedScore, export_sentence_transformers
from pairstill.export.sentence_transformers_import import import_sentence_transformers

__all__ = [
    "ExportedScore",
    "OnnxExport",
    "export_onnx",
    "export_sentence_transformers",
    "import_sentence_transformers",
]
