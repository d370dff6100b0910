"""Comparing systems: quality, significance, cost, and the trade-off between them."""
