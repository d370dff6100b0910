"""How fast heads are executed here: beside their plain form, the machine's peak, and BERT-base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.evaluation.bert_base import Scope, measure_bert_base
from pairstill.evaluation.execution import Execution
from pairstill.evaluation.timing import rates
from pairstill.machine import best_precision
from pairstill.machine import describe as describe_machine
from pairstill.metrics.graded import kendall
from pairstill.representation import Representation
from pairstill.scoring.fast_head import FastHead, has_fast_form
from pairstill.students.base import Student
from pairstill.students.heads.bag import BagHead, bag_scale
from pairstill.students.heads.base import Head
from pairstill.students.heads.cosine import CosineHead
from pairstill.students.heads.dot import DotHead
from pairstill.students.heads.feed_forward import FeedForwardHead, FeedForwardHeadConfig
from pairstill.students.heads.kernel_pooling import KernelHead
from pairstill.students.heads.max_sim import MaxSimHead
from pairstill.students.heads.poly import PolyHead
from pairstill.students.heads.residual import ResidualHead, ResidualHeadConfig
from pairstill.students.heads.similarity_skip import SimilaritySkip
from pairstill.students.heads.transformer import TransformerHead, TransformerHeadConfig
from pairstill.students.inference import map_blocks

NEEDED_TAU = 0.99
MOST_STUDENT_PAIRS, STUDENT_PAIRS = 2048, 64
"""Of one repetition and of one call, where a student itself scores."""
PEAK_SIZES = (1024, 2048, 4096)


@dataclass(frozen=True)
class HeadSetting:
    """A head and items for it.

    Attributes:
        name: In the table.
        head: The head; None where the student has none apart from its encoder.
        items: Per field, a block of items.
        skip: The student's similarity skip; None where there is none.
        multiply_adds: The yardstick: multiply-adds of a pair with nothing shared between pairs.
        student: Scores where there is no head with a fast form; None for a head alone.
    """

    name: str
    head: Head | None
    items: tuple[Representation[np.ndarray], ...]
    multiply_adds: float
    skip: SimilaritySkip | None = None
    student: Student | None = None

    @property
    def runs_fast(self) -> bool:
        """Whether the head has a fast form."""
        return self.head is not None and has_fast_form(self.head)


def named_setting(name: str, items: int = 4096, seed: int = 0) -> HeadSetting:
    """A head of a published shape with random weights and vectors; speed does not depend on them.

    Args:
        name: `p2t` or `q2p`: DiPair's transformer heads (4 + 12 vectors of 128, 4 + 8 of 256). `dipair-ffnn`: the
            feed-forward head on p2t's vectors. `de-ffnn`, `de-cos`, `twinbert-res`, `bert-dot`: the heads over one vector
            of 384. `bert2dnn`: its head over a bag of 64 a field. `poly-encoder`: 16 vectors of 384 with one. `colbert` and
            `tk`: 10 vectors with 60, of 128 and of 300.
        items: Per field.
        seed: Of weights and vectors.

    Raises:
        KeyError: The name is unknown.
    """
    shapes: dict[str, tuple[int, int, int]] = {
        "p2t": (4, 12, 128), "q2p": (4, 8, 256), "dipair-ffnn": (4, 12, 128), "de-ffnn": (1, 1, 384), "de-cos": (1, 1, 384),
        "twinbert-res": (1, 1, 384), "bert-dot": (1, 1, 384), "bert2dnn": (1, 1, 64), "poly-encoder": (16, 1, 384),
        "colbert": (10, 60, 128), "tk": (10, 60, 300),
    }  # fmt: skip
    left, right, dim = shapes[name]
    torch.manual_seed(seed)
    head: Head
    if name in ("p2t", "q2p"):
        head = TransformerHead(TransformerHeadConfig(), (left, right), dim, 1)
    elif name == "de-cos":
        head = CosineHead(dim)
    elif name == "twinbert-res":
        head = ResidualHead(ResidualHeadConfig(), dim, 2, 1)
    elif name == "bert2dnn":
        head = BagHead(FeedForwardHeadConfig((1024, 512, 128, 64)), "sqrtn", False, dim, 2, 1)
    elif name == "bert-dot":
        head = DotHead(dim)
    elif name == "poly-encoder":
        head = PolyHead(left, dim)
    elif name == "colbert":
        head = MaxSimHead((left, right), dim)
    elif name == "tk":
        head = KernelHead((left, right), dim)
    else:
        head = FeedForwardHead(FeedForwardHeadConfig(), [(left, dim), (right, dim)], 1)
    generator = np.random.default_rng(seed)
    blocks: list[Representation[np.ndarray]] = []
    for slots in (left, right):
        vectors = generator.standard_normal((items, slots, dim), dtype=np.float32)
        counts = np.full((items, 1), 16, dtype=np.float32) if isinstance(head, BagHead) else None
        blocks.append(Representation(vectors, np.full(items, slots, dtype=np.int64), scalars=counts))
    return HeadSetting(name, head.eval(), tuple(blocks), head.multiply_adds_per_pair())


def matrix_peak(precision: str, seconds: float = 2.0) -> float:
    """Operations (two a multiply-add) per second of the best square matrix product here.

    Args:
        precision: float32, bfloat16 or int8.
        seconds: About how long to measure.
    """
    best = 0.0
    for size in PEAK_SIZES:
        work: Callable[[], object]
        if precision == "int8":
            left = torch.randint(-127, 127, (size, size)).to(torch.int8)
            work = partial(torch._int_mm, left, left)
        else:
            values = torch.randn(size, size).to(getattr(torch, precision))
            work = partial(torch.mm, values, values)
        with torch.inference_mode():
            best = max(best, max(rates(work, 2 * size**3, seconds / len(PEAK_SIZES))))
    return best


def benchmark_head(
    setting: HeadSetting,
    *,
    pairs: int = 65_536,
    seconds: float = 20.0,
    bert_base: Scope = "full",
    precisions: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a head on random pairs of its items; gathering and the float32 output are inside the clock.

    Args:
        setting: Head and items.
        pairs: Of one repetition.
        seconds: About how long to measure each precision.
        bert_base: Forms of BERT-base to time.
        precisions: None means all that run here.
        seed: Of the pairs.

    Returns:
        Keys of the fastest precision whose Kendall's tau with float32 is at least 0.99, at the top level; every precision
        under `precisions`; the conditions.
    """
    generator = np.random.default_rng(seed)
    pairs = pairs if setting.runs_fast else min(pairs, MOST_STUDENT_PAIRS)
    index = np.stack([generator.integers(0, len(one), pairs) for one in setting.items], axis=1)
    if precisions is None:
        precisions = ["float32"]
        if best_precision() == "bfloat16":
            wide = setting.runs_fast and isinstance(setting.head, TransformerHead)
            precisions += ["bfloat16", "int8"] if wide else ["bfloat16"]
    measured: dict[str, dict[str, Any]] = {}
    reference: np.ndarray | None = None
    for precision in precisions:
        score = _scorer(setting, precision, index)
        logits = score()
        reference = logits if reference is None else reference
        found = rates(score, pairs, seconds, most=40)
        peak = matrix_peak(precision)
        rate = float(np.median(found))
        measured[precision] = {
            "pairs_per_s": round(rate, 1),
            "slowest": round(min(found), 1),
            "fastest": round(max(found), 1),
            "peak_flops": round(peak),
            "fraction_of_peak": round(2 * setting.multiply_adds * rate / peak, 4),
            "kendall_tau_vs_float32": round(min(_taus(reference[:8192], logits[:8192])), 5),
        }
    plain = plain_rate(setting, index, seconds)
    timings, notes = measure_bert_base(bert_base, seconds=seconds)
    bert = {f"{one.runtime} {one.precision}": round(one.per_second, 2) for one in timings}
    fair = {name: one for name, one in measured.items() if one["kendall_tau_vs_float32"] >= NEEDED_TAU}
    best = max(fair, key=lambda name: fair[name]["pairs_per_s"])
    for one in measured.values():
        one["speedup_vs_plain_head"] = round(one["pairs_per_s"] / plain, 2)
        one["speedup_vs_bert_base_float32"] = (
            round(one["pairs_per_s"] / bert["PyTorch float32"], 1) if "PyTorch float32" in bert else None
        )
        one["speedup_vs_fastest_bert_base"] = (
            round(one["pairs_per_s"] / max(bert.values()), 1) if bert else None
        )  # fmt: skip
    return {
        "setting": setting.name,
        "precision": best,
        **measured[best],
        "multiply_adds_per_pair": setting.multiply_adds,
        "plain_head_pairs_per_s": round(plain, 1),
        "bert_base_pairs_per_s": bert,
        "precisions": measured,
        "items": [len(one) for one in setting.items],
        "kept_per_item": [float(one.lengths.mean()) for one in setting.items],
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
        "notes": list(notes),
    }


def _scorer(setting: HeadSetting, precision: str, index: np.ndarray) -> Callable[[], np.ndarray]:
    """Scores all pairs, items prepared: by the fast head, or by the student on every core."""
    if setting.runs_fast and setting.head is not None:
        head = FastHead(setting.head, setting.skip, precision)
        prepared = [head.prepare(field, one) for field, one in enumerate(setting.items)]
        head.calibrate(prepared, index)
        return partial(head.score, prepared, index)
    if setting.student is None:
        raise InputError(f"the head of '{setting.name}' has no fast form, and no student scores in its place")
    execution = Execution(setting.student, precision)
    with torch.inference_mode():
        ready = [execution.prepare(field, one) for field, one in enumerate(setting.items)]
    blocks = [torch.from_numpy(index[start : start + STUDENT_PAIRS]) for start in range(0, len(index), STUDENT_PAIRS)]
    return lambda: np.concatenate(list(map_blocks(lambda block: execution.score(ready, block), blocks)))


def plain_rate(setting: HeadSetting, index: np.ndarray, seconds: float) -> float:
    """Pairs per second of the head in its plain float32 form, at the best of four batch sizes.

    Plain: vectors are gathered, joined and put through ordinary layers, every position of every layer, with nothing
    prepared: `transformers`' `BertEncoder` for a transformer head, the student's own graph where no plainer form is known.
    """
    rate = 0.0
    score = _plain(setting)
    for batch in (64, 256, 1024, 4096) if setting.runs_fast else (16, 64):
        part = torch.from_numpy(index[:batch])
        with torch.inference_mode():
            rate = max(rate, float(np.median(rates(partial(score, part), batch, seconds / 8, most=40))))
    return rate


def _plain(setting: HeadSetting) -> Callable[[Tensor], Tensor]:
    vectors = [torch.from_numpy(one.vectors) for one in setting.items]
    head = setting.head
    if isinstance(head, TransformerHead):
        layers = plain_transformer(head)

        def transformer(index: Tensor) -> Tensor:
            joined = torch.cat([one[index[:, field]] for field, one in enumerate(vectors)], dim=1)
            if head.positions is not None:
                joined = joined + head.positions
            hidden: Tensor = layers(head.norm(joined))[0]
            return head.output(hidden[:, 0])  # type: ignore[no-any-return]

        return transformer
    if isinstance(head, BagHead):
        counts = [torch.from_numpy(one.scalars)[:, 0] for one in setting.items if one.scalars is not None]
        weights: list[nn.Linear] = list(head.first)  # type: ignore[arg-type]
        whole = torch.cat([one.weight for one in weights], dim=1)

        def bags(index: Tensor) -> Tensor:
            sums = torch.stack([one[index[:, field], 0] for field, one in enumerate(vectors)], dim=1)
            sizes = torch.stack([one[index[:, field]] for field, one in enumerate(counts)], dim=1)
            if head.union:
                sums, sizes = sums.sum(dim=1, keepdim=True), sizes.sum(dim=1, keepdim=True)
            joined = (sums * bag_scale(sizes, head.combiner)[:, :, None]).flatten(1)
            first = torch.nn.functional.linear(joined, whole, weights[0].bias)
            return head.output(head.hidden(head.activation(first)))  # type: ignore[no-any-return]

        return bags
    if isinstance(head, FeedForwardHead):
        first_layer: list[nn.Linear] = list(head.first)  # type: ignore[arg-type]
        weight = torch.cat([one.weight for one in first_layer], dim=1)
        bias = first_layer[0].bias

        def feed_forward(index: Tensor) -> Tensor:
            joined = torch.cat([one[index[:, field]].flatten(1) for field, one in enumerate(vectors)], dim=1)
            first = torch.nn.functional.linear(joined, weight, bias)
            return head.output(head.hidden(head.activation(first)))  # type: ignore[no-any-return]

        return feed_forward

    if not isinstance(head, CosineHead):
        return _unprepared(setting)

    def cosine(index: Tensor) -> Tensor:
        left, right = (one[index[:, field], 0] for field, one in enumerate(vectors))
        return torch.cosine_similarity(left, right)

    return cosine


def _unprepared(setting: HeadSetting) -> Callable[[Tensor], Tensor]:
    """`prepare` and `score` of the head, or of the student, over items that are gathered for every pair."""
    model: Any = setting.student if setting.head is None else setting.head
    items = [one.map(torch.from_numpy) for one in setting.items]

    def score(index: Tensor) -> Tensor:
        prepared = []
        for field, one in enumerate(items):
            part = one.take(index[:, field])
            prepared.append(
                model.prepare(field, part) if setting.head is None else model.prepare(field, part.vectors, part.lengths)
            )
        logits: Tensor = model.score(prepared, torch.arange(len(index))[:, None].expand(-1, len(items)))
        return logits

    return score


def plain_transformer(head: TransformerHead) -> Any:
    """`transformers`' encoder of the same shape and weights."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertEncoder

    config = BertConfig(
        hidden_size=head.dim, num_hidden_layers=head.config.layers, num_attention_heads=head.config.attention_heads,
        intermediate_size=head.config.intermediate, hidden_act={"gelu_tanh": "gelu_new"}.get(head.config.activation, head.config.activation),
        attn_implementation="sdpa",
    )  # fmt: skip
    encoder = BertEncoder(config).eval()
    for ours, theirs in zip(head.layers, encoder.layer, strict=True):
        pairs = (
            (theirs.attention.self.query, ours.query), (theirs.attention.self.key, ours.key), (theirs.attention.self.value, ours.value),
            (theirs.attention.output.dense, ours.out), (theirs.attention.output.LayerNorm, ours.attention_norm),
            (theirs.intermediate.dense, ours.up), (theirs.output.dense, ours.down), (theirs.output.LayerNorm, ours.output_norm),
        )  # fmt: skip
        for target, source in pairs:
            target.load_state_dict(source.state_dict())  # type: ignore[union-attr]
    return encoder


def _taus(reference: np.ndarray, other: np.ndarray) -> list[float]:
    found = [kendall(reference[:, column], other[:, column]).value for column in range(reference.shape[1])]
    return [1.0 if one is None else one for one in found]
