"""Distil a slow cross-encoder into cheap pair-scoring students, and say what was paid for the speed.

Importing this package costs nothing: PyTorch is loaded only by the rooms that need it.
"""

__version__ = "0.1.0"
