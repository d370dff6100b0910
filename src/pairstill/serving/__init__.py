"""The HTTP service: students, exported, behind routes that batch, limit and measure; no PyTorch."""
