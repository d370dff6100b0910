"""Making tuple sets: hard negatives, transfer sets, the built-in corpus."""
