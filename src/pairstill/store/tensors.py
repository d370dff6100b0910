"""Gathered arrays as PyTorch tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from pairstill.store.blocks import PREPARED
from pairstill.store.quantise import from_levels


def as_tensors(arrays: Mapping[str, tuple[str, np.ndarray]], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Tensors over the arrays' own memory where nothing has to be converted.

    Args:
        arrays: By name, (safetensors dtype, array) as gathered.
        dtype: Of float vectors, similarity and the prepared part, scales applied; None keeps the stored precision, where
            vectors of 8 bits with scales keep these apart and all else of 8 bits becomes float32.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, (stored, array) in arrays.items():
        if name.endswith("_scales") or (name == "scales" and dtype is not None):
            continue
        tensor = torch.from_numpy(array)
        if stored == "BF16":
            tensor = tensor.view(torch.bfloat16)
        if stored == "U8" and name == "vectors" and array.ndim == 3:
            tensor = torch.from_numpy(from_levels(array))
        if name in ("vectors", "similarity") or name.startswith(PREPARED):
            scales = arrays.get("scales" if name == "vectors" else f"{name}_scales")
            if stored == "I8" and scales is not None and (dtype is not None or name != "vectors"):
                tensor = tensor.float().mul_(torch.from_numpy(scales[1]).unsqueeze(-1))
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
        tensors[name] = tensor
    return tensors
