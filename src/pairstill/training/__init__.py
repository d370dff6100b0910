"""The training loop, its stages and its batches."""
