"""Exported students, executed without PyTorch: ONNX Runtime, tokenizers and NumPy are all they need."""

from pairstill.runtime.student import RuntimeStudent

__all__ = ["RuntimeStudent"]
