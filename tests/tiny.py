"""Tiny models, tokenizers and tuple sets, built in code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from pairstill.tuples import Collection, Field, Labels, TupleSet

WORDS = [f"w{number}" for number in range(60)]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES = {
    "bert": SIZES,
    "roberta": {**SIZES, "pad_token_id": 0, "type_vocab_size": 1},
    "electra": {**SIZES, "embedding_size": 16},
    "albert": {**SIZES, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48},
}


def tiny_tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: number for number, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    pair = "[CLS] $A [SEP] [SEP] $B [SEP]" if family == "roberta" else "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"] + ([] if family in ("roberta", "distilbert") else ["token_type_ids"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=40, model_input_names=names,
    )  # fmt: skip


def tiny_base(folder: Path, family: str = "bert") -> Path:
    """A base of a family in a folder, as `transformers` saves one."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=65, max_position_embeddings=160, **FAMILIES[family])
    AutoModel.from_config(config).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def tiny_image_base(folder: Path) -> Path:
    """A vision transformer of 16 patches in a folder, with its image processor."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(image_size=16, patch_size=4, **shape)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def noisy_image(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (20, 14)) -> Image.Image:
    """An image of one color and noise."""
    noise = np.random.default_rng(seed).normal(0, 30, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


def tiny_tuple_set(rows: int = 400, fields: int = 2, seed: int = 0) -> TupleSet:
    """Random texts; a tuple is positive where its first two texts share a word."""
    generator = np.random.default_rng(seed)
    texts = [[" ".join(generator.choice(WORDS, generator.integers(2, 9))) for _ in range(40)] for _ in range(fields)]
    index = np.stack([generator.integers(0, 40, rows) for _ in range(fields)], axis=1)
    names = ("query", "item", "context")[:fields]
    shared = [float(bool(set(texts[0][row[0]].split()) & set(texts[-1][row[-1]].split()))) for row in index]
    split = np.where(index[:, 0] < 28, "train", np.where(index[:, 0] < 34, "valid", "test"))
    return TupleSet(
        fields=tuple(Field(name, name) for name in names),
        labels=Labels("binary"),
        collections={
            name: Collection(pa.array([f"{name}{number}" for number in range(40)]), pa.array(texts[place]))
            for place, name in enumerate(names)
        },
        tuples=pa.table(
            {
                **{name: pa.array([f"{name}{row[place]}" for row in index]) for place, name in enumerate(names)},
                "label": pa.array(shared),
                "weight": pa.nulls(rows, pa.float64()),
                "group": pa.array([f"query{row[0]}" for row in index]),
                "split": pa.array(split.tolist()),
            }
        ),
    )
