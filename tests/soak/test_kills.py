"""kill -9 at random moments: what is resumed ends as what was never disturbed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from command_line import Command, works
from pairstill.tuples import Collection, Field, Labels, TupleSet

pytestmark = pytest.mark.soak
KILLS = 10
WORDS = [f"word{number}" for number in range(300)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuples")
    generator = np.random.default_rng(0)

    def texts(count: int) -> list[str]:
        return [" ".join(generator.choice(WORDS, generator.integers(3, 12))) for _ in range(count)]

    rows, queries, items = 4000, 200, 800
    left, right = generator.integers(0, queries, rows), generator.integers(0, items, rows)
    split = np.where(left < 140, "train", np.where(left < 170, "valid", "test"))
    ids = [f"q{number}" for number in range(queries)], [f"p{number}" for number in range(items)]
    query_texts, item_texts = texts(queries), texts(items)
    shared = [
        float(len(set(query_texts[a].split()) & set(item_texts[b].split())) > 0)
        for a, b in zip(left, right, strict=True)
    ]
    TupleSet(
        fields=(Field("query", "query"), Field("item", "item")),
        labels=Labels("binary"),
        collections={
            "query": Collection(pa.array(ids[0]), pa.array(query_texts)),
            "item": Collection(pa.array(ids[1]), pa.array(item_texts)),
        },
        tuples=pa.table(
            {
                "query": pa.array([ids[0][one] for one in left]),
                "item": pa.array([ids[1][one] for one in right]),
                "label": pa.array(shared),
                "weight": pa.nulls(rows, pa.float64()),
                "group": pa.array([ids[0][one] for one in left]),
                "split": pa.array(split.tolist()),
            }
        ),
    ).save(folder)
    return folder


def run(arguments: list[str]) -> float:
    began = time.perf_counter()
    works(*arguments)
    return time.perf_counter() - began


def run_with_kills(arguments: Callable[[Path], list[str]], folder: Path, seconds: float, seed: int) -> list[Path]:
    """Run into new folders until `KILLS` kills at random moments have hit; returns the folders, each finished in the end.

    Args:
        arguments: Of the command, for an output folder.
        folder: For the output folders.
        seconds: What an undisturbed run took.
        seed: Of the moments.
    """
    chance, hits, finished = random.Random(seed), 0, []
    while hits < KILLS:
        out = folder / f"killed-{len(finished)}"
        while True:
            command = Command(*arguments(out))
            if hits < KILLS and not command.ended(chance.uniform(0.2, 0.95) * seconds):
                command.kill()
                command.wait()
                hits += 1
                continue
            done = command.wait(600)
            assert done.returncode == 0, done.stderr
            finished.append(out)
            break
    return finished


def same_weights(left: Path, right: Path) -> None:
    one, two = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


TRAIN = ["--precision", "float32", "--threads", "1", "--looks", "5"]


def test_teach_killed(base: Path, tuples: Path, tmp_path: Path) -> None:
    def arguments(out: Path) -> list[str]:
        return ["teach", "--tuples", str(tuples), "--base", str(base), "--max-length", "32", "--pairs", "12000", "--out", str(out), *TRAIN,
                "--checkpoint-every-s", "1"]  # fmt: skip

    seconds = run(arguments(tmp_path / "calm"))
    for killed in run_with_kills(arguments, tmp_path, seconds, seed=1):
        same_weights(tmp_path / "calm", killed)


@pytest.fixture(scope="module")
def scored(base: Path, tuples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("scored")
    run(
        [
            "teach",
            "--tuples",
            str(tuples),
            "--base",
            str(base),
            "--max-length",
            "32",
            "--pairs",
            "2000",
            "--out",
            str(folder / "teacher"),
            *TRAIN,
        ]
    )
    run(["annotate", "--tuples", str(tuples), "--teacher", str(folder / "teacher"), "--out", str(folder / "scores"), "--precision", "float32",
         "--threads", "1"])  # fmt: skip
    return folder / "teacher", folder / "scores"


def test_annotate_killed(tuples: Path, scored: tuple[Path, Path], tmp_path: Path) -> None:
    def arguments(out: Path) -> list[str]:
        return ["annotate", "--tuples", str(tuples), "--teacher", str(scored[0]), "--out", str(out), "--precision", "float32", "--threads", "1",
                "--shard-rows", "100"]  # fmt: skip

    seconds = run(arguments(tmp_path / "calm"))
    calm = sorted((tmp_path / "calm").rglob("*.parquet"))
    assert calm
    for killed in run_with_kills(arguments, tmp_path, seconds, seed=2):
        for path in calm:
            assert path.read_bytes() == (killed / path.relative_to(tmp_path / "calm")).read_bytes()


def test_distill_killed(base: Path, tuples: Path, scored: tuple[Path, Path], tmp_path: Path) -> None:
    def arguments(out: Path) -> list[str]:
        return ["distill", "--student", "dipair-tsf", "--tuples", str(tuples), "--scores", str(scored[1]), "--base", str(base), "--max-length", "16",
                "--set", "keep=4,8", "--set", "projection=32", "--pairs", "6000", "--stage1-pairs", "12000", "--out", str(out), *TRAIN,
                "--checkpoint-every-s", "1"]  # fmt: skip

    seconds = run(arguments(tmp_path / "calm"))
    for killed in run_with_kills(arguments, tmp_path, seconds, seed=3):
        same_weights(tmp_path / "calm", killed)
