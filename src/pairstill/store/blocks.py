"""Blocks of items in the form in which shards hold them, and the buffer that cuts blocks into shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.store.quantise import DTYPES, to_precision
from pairstill.store.shard_file import STORED, Blocks

STRIDES = ("fixed", "ragged")
# Arrays that have a row per kept vector, not per item, where the stride is ragged.
PER_ENTRY = ("vectors", "scales")
PREPARED = "prepared."
_NAMES = {dtype: name for name, dtype in STORED.items() if name not in ("BF16", "U32", "U64")}

Spec = dict[str, tuple[str, tuple[int, ...]]]


def check_precision(dtype: str, stride: str, shard_rows: int) -> None:
    """Raise `InputError` where a store cannot be made like this."""
    if dtype not in DTYPES:
        raise InputError(f"the store precision '{dtype}' is unknown", expected=", ".join(DTYPES))
    if stride not in STRIDES:
        raise InputError(f"the stride '{stride}' is unknown", expected=" or ".join(STRIDES))
    if dtype == "uint8" and stride != "fixed":
        raise InputError("a ragged store has no uint8 levels", fix="Choose int8, or the fixed stride")
    if shard_rows < 1:
        raise InputError(f"the number of rows per shard is {shard_rows}", expected="at least 1")


@dataclass(frozen=True)
class Block:
    """Items as a shard holds them.

    Attributes:
        arrays: By name, (safetensors dtype, array). In a ragged block `vectors` and `scales` have one row per kept vector,
            items one behind the other; all others have one row per item.
        stride: `fixed` or `ragged`.
    """

    arrays: dict[str, tuple[str, np.ndarray]]
    stride: str

    def __len__(self) -> int:
        """Number of items."""
        return len(self.arrays["lengths"][1])

    @property
    def spec(self) -> Spec:
        """Type and shape of one row of every array."""
        return {name: (dtype, array.shape[1:]) for name, (dtype, array) in self.arrays.items()}

    @property
    def longest(self) -> int:
        """Entries of the longest item."""
        return int(self.arrays["lengths"][1].max(initial=0))

    def slice(self, start: int, stop: int) -> Block:
        """The items from `start` up to, not including, `stop`; views."""
        ends = np.concatenate([[0], np.cumsum(self.arrays["lengths"][1])]) if self.stride == "ragged" else None
        cut = {}
        for name, (dtype, array) in self.arrays.items():
            at = slice(start, stop)
            if ends is not None and name in PER_ENTRY:
                at = slice(int(ends[start]), int(ends[stop]))
            cut[name] = (dtype, array[at])
        return Block(cut, self.stride)


def make_block(
    representation: Representation[Any],
    dtype: str,
    stride: str = "fixed",
    prepared: Mapping[str, Any] | None = None,
) -> Block:
    """Convert a representation, NumPy or PyTorch, to the form and precision of a store.

    Args:
        representation: Of a block of items.
        dtype: Of float vectors, similarity and the prepared part.
        stride: `ragged` drops what lies beyond each item's length.
        prepared: Float arrays, one row per item, by name.

    Raises:
        InputError: Arrays do not fit together, or cannot be stored.
    """
    lengths = _integers("lengths", representation.lengths).astype(np.int64)
    vectors = representation.vectors
    if vectors.ndim not in (2, 3):
        raise InputError(
            f"the vectors have {vectors.ndim} dimensions", expected="(items, tokens, dim) or (items, tokens)"
        )
    named = {**representation.arrays(), **{PREPARED + name: array for name, array in (prepared or {}).items()}}
    for name, array in named.items():
        if len(array) != len(lengths):
            raise InputError(f"the block has {len(lengths)} lengths and {len(array)} rows of '{name}'")
    tokens = vectors.shape[1]
    if len(lengths) and (int(lengths.min()) < 0 or int(lengths.max()) > tokens):
        raise InputError(f"a length is {int(lengths.max())} or below 0", expected=f"0 to {tokens}, the tokens kept")
    if dtype == "uint8" and vectors.ndim == 3 and (tokens != 1 or not lengths.all()):
        raise InputError(
            f"items keep up to {tokens} vectors, and levels of uint8 have no zero to pad with", expected="one vector an item",
            fix="Choose int8",
        )  # fmt: skip
    if stride == "ragged" and prepared:
        raise InputError("a ragged store keeps no prepared part", fix="Choose the fixed stride")
    arrays: dict[str, tuple[str, np.ndarray]] = {"lengths": ("I64", lengths)}
    kept = np.arange(tokens) < lengths[:, None] if stride == "ragged" else None
    for name, array in named.items():
        if name == "lengths":
            continue
        if kept is not None and name in PER_ENTRY:
            array = array[kept if isinstance(array, np.ndarray) else _mask(array, kept)]
        arrays.update(_stored(name, array, dtype))
    if "vectors_scales" in arrays:
        arrays["scales"] = arrays.pop("vectors_scales")
    return Block(arrays, stride)


def _stored(name: str, array: Any, dtype: str) -> dict[str, tuple[str, np.ndarray]]:
    is_float = str(array.dtype).removeprefix("torch.") in ("float64", "float32", "float16", "bfloat16")
    if is_float and (name in ("vectors", "similarity") or name.startswith(PREPARED)):
        return to_precision(name, array, dtype)
    if name.startswith(PREPARED):
        raise InputError(f"the array '{name}' has the type {array.dtype}", expected="floats")
    if not isinstance(array, np.ndarray):
        tensor = array.detach().cpu()
        array = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    found: np.ndarray = array
    stored = _NAMES.get(found.dtype.newbyteorder("<") if found.dtype.itemsize > 1 else found.dtype)
    if stored is None or (name == "vectors" and stored == "U8"):
        raise InputError(f"the array '{name}' has the type {found.dtype}", expected="floats or signed integers")
    return {name: (stored, found)}


def _integers(name: str, array: Any) -> np.ndarray:
    found = array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise InputError(
            f"the array '{name}' has the type {found.dtype} and {found.ndim} dimensions", expected="integers"
        )
    return np.asarray(found)


def _mask(tensor: Any, kept: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(kept).to(tensor.device)


class ShardBuffer:
    """Cuts blocks of any size into shards of the same number of rows.

    Args:
        shard_rows: Rows per shard.
        write: Called with (arrays for `write_arrays`, rows, entries); entries is None where the stride is fixed.
        spec: What blocks must hold; None takes the first block's.
    """

    def __init__(
        self,
        shard_rows: int,
        write: Callable[[dict[str, Blocks], int, int | None], None],
        spec: Spec | None = None,
    ) -> None:
        self.shard_rows, self.spec = shard_rows, spec
        self.rows = 0
        self._write, self._blocks = write, list[Block]()

    def append(self, block: Block) -> None:
        """Add a block; whole shards are written.

        Raises:
            InputError: It holds other arrays, types or shapes than the blocks before.
        """
        if self.spec is None:
            self.spec = block.spec
        elif block.spec != self.spec:
            raise InputError(
                f"the block has the arrays {_said(block.spec)}", expected=f"{_said(self.spec)}, as the blocks before it"
            )
        start = 0
        while start < len(block):
            stop = min(len(block), start + self.shard_rows - self.rows)
            part = block.slice(start, stop)
            # The caller may use its memory for the next block.
            self._blocks.append(
                Block({name: (dtype, array.copy()) for name, (dtype, array) in part.arrays.items()}, part.stride)
            )
            self.rows += stop - start
            start = stop
            if self.rows == self.shard_rows:
                self.flush()

    def flush(self, empty: Block | None = None) -> None:
        """Write what is there as a shard, if anything is.

        Args:
            empty: A block without items, for a shard without rows where nothing is there; None writes no such shard.
        """
        if not self.rows:
            if empty is None:
                return
            self._blocks = [empty]
        first = self._blocks[0]
        arrays: dict[str, Blocks] = {
            name: (dtype, [block.arrays[name][1] for block in self._blocks])
            for name, (dtype, _) in first.arrays.items()
        }
        entries = None
        if first.stride == "ragged":
            lengths = np.concatenate(arrays["lengths"][1])
            entries = int(lengths.sum())
            arrays = {"offsets": ("I64", [np.cumsum(lengths) - lengths]), **arrays}
        self._write(arrays, self.rows, entries)
        self._blocks, self.rows = [], 0


def _said(spec: Spec) -> str:
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in sorted(spec.items()))
