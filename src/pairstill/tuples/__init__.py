"""Tuple sets: fields, collections, labels, splits; reading, checking and describing them."""

from pairstill.tuples.collection import Collection
from pairstill.tuples.normalise import read_tuple_set
from pairstill.tuples.set_manifest import Field, Labels
from pairstill.tuples.source_spec import SourceSpec
from pairstill.tuples.tuple_set import Tuples, TupleSet

__all__ = ["Collection", "Field", "Labels", "SourceSpec", "TupleSet", "Tuples", "read_tuple_set"]
