"""Images as Pillow decodes them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from pairstill.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_image(data: bytes) -> Image:
    """An encoded image (PNG, JPEG, ...), upright and in RGB.

    Raises:
        ValueError: It does not decode; the message says why.
        MissingExtraError: Pillow is not installed.
    """
    images = _pillow()
    from PIL import ImageOps

    try:
        with images.open(io.BytesIO(data)) as found:
            return ImageOps.exif_transpose(found).convert("RGB")
    except images.UnidentifiedImageError:
        raise ValueError("its format is none that Pillow knows") from None
    except Exception as error:
        # Pillow's formats raise errors of their own: OSError, SyntaxError, struct.error and others.
        raise ValueError(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__) from None


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, of an image that decodes."""
    with _pillow().open(io.BytesIO(data)) as found:
        return int(found.width), int(found.height)


def encode_image(image: Image) -> bytes:
    """An image of Pillow as PNG, which loses nothing of it."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG")
    return out.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "train") from None
    return Image
