"""Transformers layer by layer: what each layer gives, and a small one that starts from layers of a large one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.losses import LayerOutputs
from pairstill.students.encoders.attention import recorded_scores
from pairstill.students.encoders.packed_transformer import run_packed_outputs
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import attention_mask


def layer_outputs(
    encoder: nn.Module, ids: Tensor, types: Tensor | None, lengths: Tensor, *, attention: bool = True
) -> LayerOutputs:
    """Run an encoder and keep what every layer gave.

    Args:
        encoder: A transformer without a head, loaded with our attention (`load_encoder`, a cross-encoder's `base_model`).
        ids: `(batch, tokens)`, padded on the right.
        types: Token types of the same shape; None where the tokenizer has none.
        lengths: `(batch,)` valid tokens.
        attention: Whether scores before the softmax are kept.
    """
    mask = attention_mask(lengths, ids.shape[1])
    extra = {} if types is None else {"token_type_ids": types}
    recording: AbstractContextManager[list[Tensor]] = recorded_scores(encoder) if attention else nullcontext([])
    with recording as scores:
        hidden = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True, **extra).hidden_states
    return LayerOutputs(hidden, scores, mask.bool())


def packed_layer_outputs(
    encoder: nn.Module, ids: Tensor, types: Tensor | None, lengths: Tensor, *, attention: bool = True
) -> LayerOutputs:
    """As `layer_outputs`, of an encoder that is `packable`: hidden states stand one text behind the other."""
    packing = Packing.of(lengths, ids.shape[1], lengths)
    hidden, scores = run_packed_outputs(encoder, packing, ids, types, attention=attention)
    mask = attention_mask(lengths, ids.shape[1]).bool()
    return LayerOutputs([one[None, : packing.count] for one in hidden], scores, mask, packed=True)


@torch.no_grad()
def copy_layers(student: Any, teacher: Any, layers: Sequence[int]) -> None:
    """Start a BERT from the embeddings and chosen layers of another one that is equally wide.

    Args:
        student: Its i-th layer becomes the teacher's `layers[i]`; it may have fewer positions.
        teacher: A BERT.
        layers: Of the teacher, counted from 1.

    Raises:
        InputError: The models are of another kind, width or number of heads.
    """
    for name in ("model_type", "hidden_size", "intermediate_size", "num_attention_heads"):
        mine, other = getattr(student.config, name), getattr(teacher.config, name, None)
        if mine != other:
            raise InputError(
                f"the weights of a base with {name} {other} cannot start a model with {name} {mine}",
                fix="Choose the base's width and heads for the shape, or start from random weights",
            )
    for name, parameter in student.embeddings.named_parameters():
        wanted = teacher.embeddings.get_parameter(name)
        parameter.copy_(wanted[: len(parameter)])
    for mine, place in zip(student.encoder.layer, layers, strict=True):
        mine.load_state_dict(teacher.encoder.layer[place - 1].state_dict())
