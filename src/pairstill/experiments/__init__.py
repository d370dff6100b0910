"""Recipes: published settings as files that run."""
