"""Language models, bases in folders, layers looked into and copied."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM

from pairstill.errors import InputError
from pairstill.students.base_folder import save_base
from pairstill.students.encoders.language_model import load_language_model, new_bert, new_language_model
from pairstill.students.encoders.layers import copy_layers, layer_outputs
from pairstill.students.encoders.pretrained import attention_mask, load_encoder
from pairstill.students.encoders.shape import Shape
from tiny import tiny_base, tiny_tokenizer

IDS = torch.tensor([[2, 9, 4, 12, 3], [2, 30, 3, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TYPES = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
PLACES = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]]).bool()


def test_saved_and_loaded_it_is_a_masked_language_model_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = new_language_model("2x24x3", 65, positions=20, padding=0).eval()
    torch.nn.init.normal_(model.bias)
    save_base(tmp_path, model.encoder, model.tensors(), "BertForMaskedLM", tiny_tokenizer(), "# A base\n")
    theirs = BertForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    mask = attention_mask(LENGTHS, 5)
    with torch.no_grad():
        mine = model(IDS, TYPES, LENGTHS, PLACES)
        expected = theirs(input_ids=IDS, attention_mask=mask, token_type_ids=TYPES).logits[PLACES]
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)
        again = load_language_model(str(tmp_path)).eval()
        torch.testing.assert_close(again(IDS, TYPES, LENGTHS, PLACES), mine)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tiny_tokenizer().get_vocab()
    assert AutoModel.from_pretrained(tmp_path).config.max_position_embeddings == 20


def test_a_base_without_a_head_gets_a_new_one(base: Path, tmp_path: Path) -> None:
    model = load_language_model(str(base))
    assert model(IDS, None, LENGTHS, PLACES).shape == (3, 65)
    with pytest.raises(InputError, match=r"is a roberta\. Expected: a BERT"):
        load_language_model(str(tiny_base(tmp_path, "roberta")))


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "albert", "distilbert"])
def test_layers_of_every_family(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_base(tmp_path, family))).eval()
    found = layer_outputs(encoder, IDS, TYPES if family == "bert" else None, LENGTHS)
    assert found.layers == 3
    assert [tuple(one.shape) for one in found.attention] == [(2, 2, 5, 5)] * 3
    assert found.hidden[-1].shape == (2, 5, 32)
    assert not layer_outputs(encoder, IDS, None, LENGTHS, attention=False).attention
    assert not any(hasattr(module, "recorded_scores") for module in encoder.modules())


def test_scores_are_those_of_queries_and_keys(base: Path) -> None:
    encoder = load_encoder(str(base)).eval()
    found = layer_outputs(encoder, IDS, TYPES, LENGTHS)
    for layer in range(3):
        own, states = encoder.encoder.layer[layer].attention.self, found.hidden[layer]
        query, key = own.query(states), own.key(states)
        for batch, head, i, j in ((0, 0, 1, 3), (1, 1, 2, 0)):
            expected = sum(
                float(query[batch, i, 16 * head + d] * key[batch, j, 16 * head + d]) for d in range(16)
            ) / math.sqrt(16)  # fmt: skip
            assert float(found.attention[layer][batch, head, i, j]) == pytest.approx(expected, abs=1e-5)


def test_a_student_that_starts_from_all_layers_is_its_teacher(base: Path) -> None:
    teacher = load_encoder(str(base)).eval()
    student = new_bert("2x32x2", 65, positions=40, padding=0)
    with pytest.raises(InputError, match="intermediate_size 48 cannot start a model with intermediate_size 128"):
        copy_layers(student, teacher, (1, 3))
    same = type(teacher)(teacher.config, add_pooling_layer=False).eval()
    copy_layers(same, teacher, (1, 2, 3))
    torch.testing.assert_close(same(input_ids=IDS).last_hidden_state, teacher(input_ids=IDS).last_hidden_state)
    copy_layers(same, teacher, (3, 3, 3))
    torch.testing.assert_close(same.encoder.layer[0].output.dense.weight, teacher.encoder.layer[2].output.dense.weight)


def test_shapes() -> None:
    assert Shape.parse("mini") == Shape(4, 256, 4, 1024)
    assert Shape.parse("3x192x12").intermediate == 768
    assert Shape.parse("4x312x12x1200") == Shape(4, 312, 12, 1200)
    assert new_bert("1x24x2x36", 50, positions=8, padding=0).config.intermediate_size == 36
    for wrong in ("large", "3x192", "0x192x12", "3x192x12x0", "3x192x12x4x4"):
        with pytest.raises(InputError, match="cannot be read"):
            Shape.parse(wrong)
    with pytest.raises(
        InputError, match=r"5 attention heads do not divide a width of 192\. Expected: LAYERSxHIDDENxHEADS"
    ):
        Shape.parse("3x192x5")
