"""Models that score a tuple in three steps: `encode`, `prepare`, `score`."""
