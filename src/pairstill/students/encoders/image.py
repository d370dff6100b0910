"""Images through a vision encoder of `transformers`: its patch vectors stand where a text has token vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.encoders.dropout import replace_dropout
from pairstill.students.encoders.pretrained import quiet_loading, resolve_base
from pairstill.students.encoders.transformer import Keep, saved_config
from pairstill.tuples.images import decode_image, encode_image


@dataclass(frozen=True)
class ImageConfig:
    """How fields of images are read.

    Attributes:
        base: Folder or hub name of a vision encoder with its image processor, such as `google/vit-base-patch16-224-in21k`; of a
            CLIP model its vision part is taken. None where no field holds images.
        shared: One encoder for all fields of images, or one each.
    """

    base: str | None = None
    shared: bool = True


def load_processor(base: str) -> Any:
    """The image processor of a base (or of a student's folder), as Pillow and NumPy run it: torchvision is not asked for.

    Raises:
        InputError: There is none.
    """
    from transformers import AutoImageProcessor

    with quiet_loading(base):
        return AutoImageProcessor.from_pretrained(resolve_base(base), backend="pil")


def image_bytes(item: Any, what: str) -> bytes:
    """An image as it is encoded: bytes as they are, a path's content, an image of Pillow as PNG.

    Args:
        item: One of these.
        what: What a message calls it.

    Raises:
        InputError: It is none of these, or the file cannot be read.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, str | Path):
        try:
            return Path(item).read_bytes()
        except OSError as error:
            raise InputError(f"{what}, the image '{item}', cannot be read: {error.strerror}") from None
    if not hasattr(item, "convert"):
        raise InputError(f"{what} is {item!r:.200}", expected="an image: of Pillow, a path, or encoded bytes")
    return encode_image(item)


@dataclass(frozen=True)
class ImageInputs:
    """Encoded images, which are decoded block by block.

    Attributes:
        images: As files hold them.
        processor: Makes pixels of them.
        tokens: Vectors that the encoder makes of each.
    """

    images: Sequence[bytes]
    processor: Any
    tokens: int

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def lengths(self) -> np.ndarray:
        """As many vectors each."""
        return np.full(len(self), self.tokens, np.int64)

    def part(self, start: int, stop: int) -> Self:
        """The images from `start` up to, not including, `stop`."""
        return type(self)(self.images[start:stop], self.processor, self.tokens)

    def padded(self, rows: np.ndarray, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Pixels `(rows, channels, height, width)` float32 of the images at `rows`, and their lengths.

        Raises:
            InputError: An image does not decode.
        """
        del padding
        decoded = []
        for row in rows:
            try:
                decoded.append(decode_image(self.images[row]))
            except ValueError as error:
                raise InputError(f"image {row + 1} does not decode: {error}") from None
        return pixels_of(self.processor, decoded), np.full(len(rows), self.tokens, np.int64)


def pixels_of(processor: Any, images: Sequence[Any]) -> np.ndarray:
    """`(images, channels, height, width)` float32."""
    return np.asarray(processor(images=list(images), return_tensors="np")["pixel_values"], dtype=np.float32)


class ImageEncoder(nn.Module):
    """A vision encoder; every image becomes the same number of vectors.

    Args:
        model: Gives `last_hidden_state`: `(images, tokens, hidden)`, or `(images, hidden, height, width)`, read row by row.
        processor: Makes its pixels.
        similarity: Also keep the mean vector that the similarity skip needs.

    Raises:
        InputError: The model reads no images, or the processor gives them several sizes.
    """

    def __init__(self, model: nn.Module, processor: Any, similarity: bool = False) -> None:
        super().__init__()
        self.model, self.similarity = model.eval(), similarity
        self.tokens, self.hidden_size, self._multiply_adds = _tried(model, processor)

    @classmethod
    def from_base(cls, base: str, processor: Any, similarity: bool = False) -> ImageEncoder:
        """Load a base's weights.

        Raises:
            InputError: It cannot be loaded, or lacks weights.
        """
        from transformers import AutoConfig, AutoModel

        with quiet_loading(base):
            config = AutoConfig.from_pretrained(resolve_base(base))
            model, found = AutoModel.from_pretrained(
                resolve_base(base), config=getattr(config, "vision_config", config), dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
        missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
        if missing:
            raise InputError(
                f"the encoder of images '{base}' lacks weights, such as {missing[0]}", expected="a vision encoder",
                fix="Choose another base, or copy the folder again",
            )  # fmt: skip
        return cls(_without_pooler(model), processor, similarity)

    @classmethod
    def from_saved(cls, model_config: dict[str, Any], processor: Any, similarity: bool = False) -> ImageEncoder:
        """Build from a saved configuration; weights are loaded over it."""
        from transformers import AutoConfig, AutoModel

        config = dict(model_config)
        built = AutoConfig.for_model(config.pop("model_type"), **config)
        return cls(_without_pooler(AutoModel.from_config(built)), processor, similarity)

    def model_config(self) -> dict[str, Any]:
        """The configuration that `from_saved` takes."""
        return saved_config(self.model.config)

    def forward(self, pixels: Tensor, lengths: Tensor, keep: Keep) -> Representation[Tensor]:
        """Encode pixels `(images, channels, height, width)`: the first or last `keep.tokens` vectors, or their mean."""
        hidden = _hidden(self.model, pixels.to(next(self.model.parameters()).dtype))
        if keep.pooled:
            return Representation(hidden.float().mean(dim=1)[:, None], torch.ones_like(lengths))
        similarity = hidden.float().mean(dim=1) if self.similarity else None
        kept = hidden[:, -keep.tokens :] if keep.take == "last" else hidden[:, : keep.tokens]
        return Representation(kept.float(), torch.full_like(lengths, keep.tokens), similarity)

    def multiply_adds(self, length: float) -> float:
        """Multiply-adds of one image, as counted in a forward pass."""
        del length
        return self._multiply_adds


def _without_pooler(model: nn.Module) -> nn.Module:
    """Students never read pooled vectors; a pooler without weights costs nothing and stays."""
    replace_dropout(model)
    pooler = getattr(model, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        model.pooler = None  # type: ignore[assignment]
    return model


def _hidden(model: nn.Module, pixels: Tensor) -> Tensor:
    hidden: Tensor = model(pixel_values=pixels).last_hidden_state
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def _tried(model: nn.Module, processor: Any) -> tuple[int, int, float]:
    """Tokens, dimension and multiply-adds of one image, by running it."""
    from PIL import Image
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    wide, high = (pixels_of(processor, [Image.new("RGB", size)]) for size in ((64, 48), (48, 64)))
    if wide.shape != high.shape:
        raise InputError(
            f"the image processor makes {wide.shape[2]} x {wide.shape[3]} pixels of a wide image, {high.shape[2]} x {high.shape[3]} of a high one",
            expected="one size for all images", fix="Set its size or crop in preprocessor_config.json",
        )  # fmt: skip
    try:
        # The fused attention is not counted; this one is made of matrix products.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            hidden = _hidden(model, torch.from_numpy(wide))
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"a {type(model).__name__} does not take the pixels that the image processor makes: {str(error).splitlines()[0]}",
            expected="a vision encoder, and the image processor it was trained with",
        ) from None
    return int(hidden.shape[1]), int(hidden.shape[2]), counter.get_total_flops() / 2
