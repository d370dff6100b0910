"""The representation store: what encoders keep, on disk, memory-mapped."""
