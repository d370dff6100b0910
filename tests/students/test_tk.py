"""TK: kernels and positions against a plain transcription, word vectors from GloVe files, and bad files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairstill.errors import InputError
from pairstill.students import TK, load_student, make_student
from pairstill.students.encoders.word_vectors import positions
from pairstill.students.heads.kernel_pooling import KernelHead
from pairstill.students.persistence import parse_config

CENTRES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5, -0.7, -0.9)
WORDS = {
    "red": [1.0, 0.0, 0.5, 0.2],
    "shoe": [0.3, -1.0, 0.0, 0.4],
    "blue": [0.9, 0.1, 0.4, 0.0],
    ",": [0.0, 0.2, 0.1, -0.3],
}


def glove(folder: Path, lines: list[str] | None = None) -> Path:
    path = folder / "glove.txt"
    written = lines or [" ".join([word, *map(str, numbers)]) for word, numbers in WORDS.items()]
    path.write_text("\n".join(written) + "\n", encoding="utf-8")
    return path


def student(path: Path, corpus: Any = None, **values: Any) -> TK:
    torch.manual_seed(5)
    encoder = {"word_vectors": str(path), "max_lengths": [8], **values.pop("encoder", {})}
    made = make_student("tk", parse_config("tk", {"encoder": encoder, "intermediate": 6, **values}), corpus).eval()
    assert isinstance(made, TK)
    return made


def pooled(left: np.ndarray, right: np.ndarray, head: KernelHead) -> float:
    """Transcribed from TK, section 3.2, in loops."""
    alpha, weights = head.alpha.tolist(), head.log_weights.tolist()
    means = [0.0] * 11 if head.mean_weights is None else head.mean_weights.tolist()
    score = 0.0
    for number, centre in enumerate(CENTRES):
        for one in left:
            total = 0.0
            for other in right:
                cosine = float(one @ other) / (np.linalg.norm(one) * np.linalg.norm(other))
                total += math.exp(-((cosine - centre) ** 2) / (2 * 0.1**2))
            score += weights[number] * math.log(max(alpha[number] * total, 1e-10))
            score += means[number] * total / len(right)
    return score


@pytest.mark.parametrize("length_normalised", [True, False])
def test_kernels_are_the_formula(length_normalised: bool) -> None:
    random = np.random.default_rng(1)
    head = KernelHead((4, 6), 5, length_normalised=length_normalised)
    with torch.no_grad():
        head.alpha.uniform_(0.5, 1.5)
    blocks = [random.standard_normal((3, tokens, 5)).astype(np.float32) for tokens in (4, 6)]
    lengths = [np.array([4, 1, 2]), np.array([6, 3, 1])]
    prepared = [
        head.prepare(field, torch.from_numpy(one), torch.from_numpy(lengths[field])) for field, one in enumerate(blocks)
    ]
    index = np.array([[0, 0], [1, 2], [2, 1], [0, 2]])
    with torch.no_grad():
        found = head.score(prepared, torch.from_numpy(index))[:, 0].numpy()
    expected = [pooled(blocks[0][a, : lengths[0][a]], blocks[1][b, : lengths[1][b]], head) for a, b in index]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_positions_are_waves() -> None:
    found = positions(3, 6, 500)
    for place in range(3):
        for wave in range(3):
            angle = (500 + place) * 10_000 ** (-wave / 2)
            assert float(found[place, wave]) == pytest.approx(math.sin(angle), abs=1e-4)
            assert float(found[place, 3 + wave]) == pytest.approx(math.cos(angle), abs=1e-4)
    assert positions(2, 5, 0).shape == (2, 5)


def test_word_vectors_of_a_file_and_their_context(tmp_path: Path) -> None:
    made = student(glove(tmp_path))
    vocabulary = made.tokenizer.get_vocab()
    table = made.encoder.words.weight.detach().numpy()
    np.testing.assert_allclose(table[vocabulary["shoe"]], WORDS["shoe"], atol=1e-7)
    np.testing.assert_allclose(table[vocabulary["[UNK]"]], np.mean(list(WORDS.values()), axis=0), atol=1e-7)
    assert made.tokenizer.convert_ids_to_tokens(made.tokenize(0, ["Red, SHOE hat"]).ids) == [
        "red",
        ",",
        "shoe",
        "[UNK]",
    ]
    assert made.tokenize(1, ["", "red", ""]).lengths.tolist() == [1, 1, 1]
    assert made.tokenize(1, ["", "red", ""]).ids.tolist() == [1, vocabulary["red"], 1]
    with torch.no_grad():
        made.encoder.mix.fill_(1.0)
    np.testing.assert_allclose(made.encode(1, ["blue"]).vectors[0, 0], WORDS["blue"], atol=1e-6)
    with torch.no_grad():
        made.encoder.mix.fill_(0.5)
    made.save_pretrained(tmp_path / "saved")
    (tmp_path / "glove.txt").unlink()
    again = load_student(tmp_path / "saved")
    pairs = [("red shoe", "blue shoe"), ("shoe", "red")]
    np.testing.assert_array_equal(np.asarray(again.predict(pairs)), np.asarray(made.predict(pairs)))


def test_first_words_and_those_of_the_texts_are_taken(tmp_path: Path) -> None:
    path = glove(tmp_path)
    assert set(student(path, encoder={"words": 1}).tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "red"}
    made = student(path, corpus=[["Blue hats"], [","]], encoder={"words": 1})
    assert set(made.tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "red", "blue", ","}


def test_words_may_hold_spaces(tmp_path: Path) -> None:
    made = student(glove(tmp_path, ["red 1 2 3 4", ". . . 1 0 0 1"]))
    assert ". . ." in made.tokenizer.get_vocab()


BAD = {
    "a line that is short": (["red 1 2 3 4", "shoe 1 2 3"], r"glove\.txt, row 2: the line has 4 parts\. Expected: a word and 4"),
    "a line that is long": (["red 1 2 3 4", "shoe 1 2 3 4 5"], r"row 2: the line has 6 parts\. Expected: a word and 4"),
    "a word": (["red 1 2 3 4", "shoe 1 2 x 3"], r"row 2: 'x' is no number\. Expected: a word and 4 numbers"),
    "an infinite number": (["red 1 2 3 4", "shoe 1 2 inf 3"], "row 2: the vector has a number that is not finite"),
    "an empty line": (["red 1 2 3 4", "", "shoe 1 2 3 4"], "row 2: the line has 0 parts"),
    "a header": (["400000 300", "red 1 2 3 4"], "row 1: the first line has 1 numbers.*Remove the header line"),
    "nothing but a word": (["red", "shoe"], "row 1: the first line has 0 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_bad_lines_are_named(mistake: str, tmp_path: Path) -> None:
    lines, message = BAD[mistake]
    with pytest.raises(InputError, match=message):
        student(glove(tmp_path, lines))


def test_other_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"red 1 2 3 4\n\xff\xfe 1 2 3 4\n")
    with pytest.raises(InputError, match="row 2: the line is not UTF-8"):
        student(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="no word vectors that are wanted"):
        student(path)


def test_without_a_file_the_vectors_are_those_of_the_base_as_long_as_their_context(base: Path) -> None:
    made = make_student(
        "tk", parse_config("tk", {"encoder": {"base": str(base), "max_lengths": [8]}, "intermediate": 6})
    )
    assert isinstance(made, TK)
    from transformers import AutoModel

    table = AutoModel.from_pretrained(base).get_input_embeddings().weight
    words = made.encoder.words.weight.detach()
    scale = (words.norm() / table.norm()).item()
    torch.testing.assert_close(words, table.detach() * scale)
    assert words.norm(dim=1).mean().item() == pytest.approx(32**0.5)
    assert made.tokenize(0, ["w1 w2"]).ids.tolist() == [6, 7]
    assert made.bytes_per_item(0, 3) == 4 * 3 * 32
    assert made.multiply_adds_per_pair([2, 3]) == 2 * 3 * (32 + 33)
