"""Tuple sets: fields, collections, labels, splits; reading, checking and describing them."""

from pairstill.tuples.collection import Collection
from pairstill.tuples.normalise import read_tuple_set
from pairstill.tuples.source_spec import SourceSpec
from pairstill.tuples.tuple_set import Field, Labels, Tuples, TupleSet

__all__ = ["Collection", "Field", "Labels", "SourceSpec", "TupleSet", "Tuples", "read_tuple_set"]
