"""Scoring texts with the signatures that users of sentence-transformers' `CrossEncoder` know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.errors import InputError


class CrossEncoderInterface(ABC):
    """`predict` and `rank` for whatever gives raw logits of tuples of texts.

    Attributes:
        field_count: How many texts a tuple has.
        outputs: How many logits a tuple gets.
    """

    field_count: int
    outputs: int

    @abstractmethod
    def score_texts(self, rows: Sequence[Sequence[str]], *, batch_size: int = 32) -> np.ndarray:
        """Raw logits `(tuples, outputs)` float32 of tuples of texts.

        Args:
            rows: A list of tuples of `field_count` texts.
            batch_size: Texts per forward pass of an encoder.
        """

    def is_tuple(self, sentences: Sequence[Any]) -> bool:
        """Whether what `predict` was given is one tuple, and not a list of tuples."""
        return bool(sentences) and isinstance(sentences[0], str)

    def checked_tuple(self, row: Sequence[Any], number: int) -> Sequence[Any]:
        """A tuple as `score_texts` takes it.

        Args:
            row: What `predict` was given.
            number: Of the tuple, from 1.

        Raises:
            InputError: It has another number of texts than there are fields.
        """
        if len(row) != self.field_count or not all(isinstance(text, str) for text in row):
            raise InputError(
                f"the tuple is {row!r:.200}",
                row=number,
                expected=f"{self.field_count} texts, as this student has fields",
            )
        return row

    def predict(
        self,
        sentences: Sequence[Sequence[Any]] | Sequence[Any],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> np.ndarray | Tensor | list[Tensor]:
        """Scores of tuples of texts, with the signature of sentence-transformers' `CrossEncoder.predict`.

        Args:
            sentences: A list of tuples of texts, or one tuple.
            batch_size: Texts per forward pass of an encoder.
            show_progress_bar: Accepted for compatibility; the library itself is silent.
            activation_fn: Applied to the raw logits; None means the sigmoid for one output and identity for several.
            apply_softmax: Softmax over the outputs of classes.
            convert_to_numpy: Return a NumPy array.
            convert_to_tensor: Return a tensor; wins over `convert_to_numpy`.

        Returns:
            `(tuples,)` scores, or `(tuples, outputs)` for classes; one number or row for one tuple.

        Raises:
            InputError: A tuple has another number of texts than the student has fields.
        """
        del show_progress_bar
        single = self.is_tuple(sentences)
        rows: list[Sequence[Any]] = [sentences] if single else list(sentences)
        rows = [self.checked_tuple(row, number) for number, row in enumerate(rows, start=1)]
        logits = torch.from_numpy(self.score_texts(rows, batch_size=batch_size))
        if activation_fn is None:
            scores = torch.sigmoid(logits) if self.outputs == 1 else logits
        else:
            scores = activation_fn(logits)
        if apply_softmax and self.outputs > 1:
            scores = torch.softmax(scores, dim=-1)
        if self.outputs == 1:
            scores = scores[:, 0]
        if single:
            scores = scores[0]
        if convert_to_tensor:
            return scores
        if convert_to_numpy:
            return scores.numpy()
        return scores if single else list(scores)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Tensor], Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Rank documents for a query, with the signature of sentence-transformers' `CrossEncoder.rank`.

        Args:
            query: Text of field 0.
            documents: Texts of field 1.
            top_k: Return so many; None returns all.
            return_documents: Add the text to each result.
            batch_size: Texts per forward pass of an encoder.
            show_progress_bar: Accepted for compatibility; the library itself is silent.
            activation_fn: Applied to the raw logits; None means the sigmoid.

        Returns:
            Dictionaries with `corpus_id` and `score` (and `text`), best first; ties keep the order of `documents`.

        Raises:
            InputError: The student does not take two fields, or gives classes.
        """
        if self.field_count != 2 or self.outputs != 1:
            raise InputError(
                f"this student takes {self.field_count} fields and gives {self.outputs} outputs",
                expected="two fields and one output for `rank`; use `predict`",
            )
        del show_progress_bar
        pairs = [(query, document) for document in documents]
        scores = np.asarray(self.predict(pairs, batch_size=batch_size, activation_fn=activation_fn))
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [
            {
                "corpus_id": int(place),
                "score": float(scores[place]),
                **({"text": documents[place]} if return_documents else {}),
            }
            for place in order
        ]
