"""Encoders of images: what is kept of a picture, which bases there are, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ViTModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from pairstill.errors import InputError
from pairstill.students import Student, load_student, make_student
from pairstill.students.encoders.image import ImageEncoder, load_processor, pixels_of
from pairstill.students.encoders.transformer import Keep
from pairstill.students.persistence import parse_config
from pairstill.tuples.images import decode_image, encode_image
from tiny import noisy_image, tiny_image_base

RED, BLUE = noisy_image((250, 0, 0), 1), noisy_image((0, 0, 250), 2, (9, 30))
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 16, "patch_size": 4}  # fmt: skip


def student_of(image_base: Path, name: str = "de-cos", **values: Any) -> Student:
    values = {"inputs": {"kinds": ["image"], "image": {"base": str(image_base)}}, **values}
    return make_student(name, parse_config(name, values)).eval()


def test_pixels_and_vectors_are_those_of_transformers(image_base: Path) -> None:
    processor = load_processor(str(image_base))
    encoder = ImageEncoder.from_base(str(image_base), processor)
    assert (encoder.tokens, encoder.hidden_size) == (17, 24)
    pixels = torch.from_numpy(pixels_of(processor, [RED, BLUE]))
    expected = ViTModel.from_pretrained(image_base).eval()(pixel_values=pixels).last_hidden_state
    lengths = torch.full((2,), 17)
    for keep, wanted in (
        (Keep(3), expected[:, :3]),
        (Keep(2, "last"), expected[:, -2:]),
        (Keep(1), expected[:, :1]),
        (Keep(1, "mean"), expected.mean(1, keepdim=True)),
    ):
        found = encoder(pixels, lengths, keep)
        torch.testing.assert_close(found.vectors, wanted)
        assert found.lengths.tolist() == [wanted.shape[1]] * 2


def test_multiply_adds_are_counted(image_base: Path) -> None:
    encoder = ImageEncoder.from_base(str(image_base), load_processor(str(image_base)))
    tokens, hidden, intermediate, layers = 17, 24, 32, 2
    each = tokens * (4 * hidden * hidden + 2 * hidden * intermediate + 2 * tokens * hidden)
    assert encoder.multiply_adds(17) == pytest.approx(layers * each + 16 * (4 * 4 * 3) * hidden)


@pytest.mark.parametrize("kind", ["file", "path", "bytes", "array mode"])
def test_an_image_is_the_same_however_it_is_given(image_base: Path, tmp_path: Path, kind: str) -> None:
    student = student_of(image_base)
    RED.save(tmp_path / "red.png")
    given: Any = {
        "file": str(tmp_path / "red.png"), "path": tmp_path / "red.png", "bytes": (tmp_path / "red.png").read_bytes(),
        "array mode": RED.convert("RGBA"),
    }[kind]  # fmt: skip
    expected = float(student.predict((RED, BLUE)))
    assert float(student.predict((given, BLUE))) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(student.encode(0, [given]).vectors, student.encode(0, [RED]).vectors, atol=1e-6)


def test_pictures_are_turned_as_their_camera_says() -> None:
    turned = BLUE.rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    import io

    held = io.BytesIO()
    turned.save(held, "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(decode_image(held.getvalue())), np.asarray(BLUE))


def bases(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "clip":
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
        return CLIPModel(CLIPConfig(text_config=text, vision_config=SMALL))
    if kind == "convnext":
        return ConvNextModel(ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, patch_size=2))
    return Dinov2Model(Dinov2Config(**{**SMALL, "mlp_ratio": 2}))


@pytest.mark.parametrize("kind", ["clip", "convnext", "dinov2"])
def test_other_families_are_read_and_saved(kind: str, tmp_path: Path) -> None:
    bases(kind).save_pretrained(tmp_path / "base")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "base")
    student = student_of(tmp_path / "base", "dipair-tsf", keep=[2, 3], projection=8)
    scores = np.asarray(student.predict([(RED, BLUE), (RED, RED)]))
    assert np.isfinite(scores).all()
    student.save_pretrained(tmp_path / "student")
    again = load_student(tmp_path / "student")
    np.testing.assert_array_equal(np.asarray(again.predict([(RED, BLUE), (RED, RED)])), scores)
    if kind == "clip":
        whole = CLIPModel.from_pretrained(tmp_path / "base").vision_model
        assert torch.equal(again.encoder(0).model.state_dict()["embeddings.class_embedding"], whole.state_dict()["embeddings.class_embedding"])  # fmt: skip


def test_students_of_images_need_no_tokenizer(image_base: Path, tmp_path: Path) -> None:
    student_of(image_base).save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    assert (tmp_path / "preprocessor_config.json").exists()
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"cannot be loaded"):
        load_student(tmp_path)


def test_what_is_no_image_is_refused(image_base: Path, tmp_path: Path) -> None:
    student = student_of(image_base)
    png = encode_image(RED)
    for item, message in (
        (b"no image", r"image 1 does not decode: its format is none that Pillow knows"),
        (png[: len(png) // 2], "image 1 does not decode"),
        (tmp_path / "none.png", r"item 1, the image '.*none.png', cannot be read: No such file"),
        (3.0, r"item 1 is 3.0. Expected: an image: of Pillow, a path, or encoded bytes"),
    ):
        with pytest.raises(InputError, match=message):
            student.encode(0, [item])
    with pytest.raises(InputError, match=r"field 2 of tuple 1 is 3\.0"):
        student.predict([(RED, 3.0)])


def test_bases_that_read_no_images_are_refused(image_base: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        student_of(base)
    processor = load_processor(str(image_base))
    with pytest.raises(InputError, match="a BertModel does not take the pixels that the image processor makes"):
        ImageEncoder.from_base(str(base), processor)
    uneven = load_processor(str(image_base))
    uneven.do_resize = False
    with pytest.raises(InputError, match="48 x 64 pixels of a wide image, 64 x 48 of a high one"):
        ImageEncoder.from_base(str(image_base), uneven)
    with pytest.raises(InputError, match=r"of the 17 vectors of an image \(field 2\) 18 are to be kept"):
        student_of(image_base, "dipair-tsf", keep=[1, 18], projection=8)
    tiny_image_base(tmp_path / "damaged")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "damaged" / "model.safetensors")
    lost = next(name for name in weights if "layer" in name)
    save_file(
        {name: one for name, one in weights.items() if name != lost},
        tmp_path / "damaged" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match="lacks weights"):
        student_of(tmp_path / "damaged")
