"""Tokenizers that need no PyTorch: tri-letters and n-grams."""
