"""Execution of heads over many pairs."""
