"""Tuple sets: fields, collections, labels, splits; reading, checking and describing them."""

from pairstill.tuples.tuple_set import Collection, Field, Labels, Tuples, TupleSet

__all__ = ["Collection", "Field", "Labels", "TupleSet", "Tuples"]
