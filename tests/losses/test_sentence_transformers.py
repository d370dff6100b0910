"""Values and gradients are those of sentence-transformers' losses where the formula is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from pairstill.losses import (
    DistillationLoss,
    InBatchCrossEntropy,
    LabelCrossEntropy,
    LambdaLoss,
    ListNet,
    ListwiseKL,
    LogitSquaredError,
    MarginMSE,
    RankNet,
    Targets,
)

pytest.importorskip("sentence_transformers", minversion="6")

from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses as pair_losses
from sentence_transformers.sentence_transformer import losses as text_losses

SIZES = (4, 7, 2, 5)
"""Documents of each query."""


class Scores(torch.nn.Module):
    """In the place of a cross-encoder: the score of (query, document) is looked up."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self, logits: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.logits = logits

    def preprocess(self, pairs: Sequence[tuple[str, str]], **_: object) -> dict[str, Tensor]:
        return {"place": torch.tensor([int(document) for _, document in pairs])}

    def forward(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"scores": self.logits[tokens["place"]]}


class PairScores(Scores, CrossEncoder):
    """For losses that take nothing but a cross-encoder."""


def lists(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, tuple[list[str], list[list[str]]]]:
    """Logits with a gradient, relevances in [0, 1], groups, and the same as the other library names them."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(SIZES)
    logits = (2 * torch.randn(count, 1, generator=generator)).requires_grad_()
    relevance = torch.randint(0, 5, (count,), generator=generator) / 4
    relevance[:2] = torch.tensor([0.0, 1.0])
    groups = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    documents = [[str(place) for place in torch.nonzero(groups == query)[:, 0].tolist()] for query in range(len(SIZES))]
    return logits, relevance, groups, ([str(query) for query in range(len(SIZES))], documents)


def same(ours: Tensor, theirs: Tensor, leaf: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    mine, other = (torch.autograd.grad(one, leaf, retain_graph=True)[0] for one in (ours, theirs))
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_ranknet() -> None:
    logits, relevance, groups, inputs = lists()
    other = pair_losses.RankNetLoss(Scores(logits[:, 0]), reduction_log="natural")
    theirs = other(inputs, list(relevance.split(SIZES)))
    same(RankNet("labels")(logits, Targets(labels=relevance, groups=groups)), theirs, logits)


def test_listnet() -> None:
    logits, relevance, groups, inputs = lists()
    theirs = pair_losses.ListNetLoss(Scores(logits[:, 0]))(inputs, list(relevance.split(SIZES)))
    same(ListNet(order="labels")(logits, Targets(labels=relevance, groups=groups)), theirs, logits)
    teacher = relevance[:, None] * 3
    theirs = pair_losses.ListNetLoss(Scores(logits[:, 0]))(inputs, list(teacher[:, 0].split(SIZES)))
    same(ListNet()(logits, Targets(teacher, groups=groups)), theirs, logits)


@pytest.mark.parametrize(
    ("scheme", "other"),
    [("ndcg-loss2", "NDCGLoss2Scheme"), ("lambdarank", "LambdaRankScheme"), ("ndcg-loss2++", "NDCGLoss2PPScheme")],
)
def test_lambdaloss(scheme: str, other: str) -> None:
    logits, relevance, groups, inputs = lists()
    weighting = getattr(pair_losses, other)()
    theirs = pair_losses.LambdaLoss(Scores(logits[:, 0]), weighting_scheme=weighting, sigma=1.5)(
        inputs, list(relevance.split(SIZES))
    )
    # Theirs is a mean over all ordered pairs, ours over the lists that have any.
    pairs = [int((one[:, None] > one[None, :]).sum()) for one in relevance.split(SIZES)]
    factor = sum(pairs) / sum(1 for one in pairs if one)
    ours = LambdaLoss(scheme, sigma=1.5, order="labels")(logits, Targets(labels=relevance, groups=groups))  # type: ignore[arg-type]
    same(ours, theirs * factor, logits)


def test_margin_mse() -> None:
    generator = torch.Generator().manual_seed(1)
    query, good, bad = (torch.randn(6, 8, generator=generator) for _ in range(3))
    query.requires_grad_()
    teacher = torch.randn(6, 2, generator=generator)
    theirs = text_losses.MarginMSELoss(None).compute_loss_from_embeddings([query, good, bad], teacher)
    logits = torch.stack([(query * good).sum(dim=1), (query * bad).sum(dim=1)], dim=1).reshape(-1, 1)
    groups = torch.arange(6).repeat_interleave(2)
    same(MarginMSE()(logits, Targets(teacher.reshape(-1, 1), groups=groups)), theirs, query)


def test_listwise_kl() -> None:
    generator = torch.Generator().manual_seed(3)
    query, *passages = (torch.randn(6, 8, generator=generator) for _ in range(5))
    query.requires_grad_()
    teacher = 3 * torch.randn(6, 4, generator=generator)
    loss = text_losses.DistillKLDivLoss(None, student_temperature=1.0, teacher_temperature=2.0)
    theirs = loss.compute_loss_from_embeddings([query, *passages], teacher)
    logits = torch.stack([(query * one).sum(dim=1) for one in passages], dim=1).reshape(-1, 1)
    groups = torch.arange(6).repeat_interleave(4)
    same(ListwiseKL(2.0)(logits, Targets(teacher.reshape(-1, 1), groups=groups)), theirs, query)


def test_losses_of_single_pairs() -> None:
    logits, relevance, _, _ = lists()
    pairs = [["query"] * len(logits), [str(place) for place in range(len(logits))]]
    labelled, taught = Targets(labels=relevance), Targets(relevance[:, None])
    theirs = pair_losses.BinaryCrossEntropyLoss(PairScores(logits[:, 0]))(pairs, relevance)
    same(LabelCrossEntropy()(logits, labelled), theirs, logits)
    same(DistillationLoss(hard_weight=1.0)(logits, labelled), theirs, logits)
    teacher = torch.logit(relevance.clamp(0.1, 0.9))[:, None]
    theirs = pair_losses.BinaryCrossEntropyLoss(PairScores(logits[:, 0]))(pairs, torch.sigmoid(teacher[:, 0] / 2))
    same(DistillationLoss(2.0)(logits, Targets(teacher)), theirs, logits)
    theirs = pair_losses.MSELoss(PairScores(logits[:, 0]))(pairs, relevance)
    same(LogitSquaredError()(logits, taught), theirs, logits)


def test_classes() -> None:
    generator = torch.Generator().manual_seed(4)
    logits, teacher = (
        torch.randn(9, 3, generator=generator).requires_grad_(),
        2 * torch.randn(9, 3, generator=generator),
    )
    pairs, labels = [["query"] * 9, [str(place) for place in range(9)]], torch.arange(9) % 3
    model = PairScores(logits)
    model.num_labels = 3
    theirs = pair_losses.CrossEntropyLoss(model)(pairs, labels)
    same(LabelCrossEntropy()(logits, Targets(labels=labels.float())), theirs, logits)
    theirs = pair_losses.CrossEntropyLoss(model)(pairs, torch.softmax(teacher / 2, dim=1))
    same(DistillationLoss(2.0)(logits, Targets(teacher)), theirs, logits)


@pytest.mark.parametrize("hard", [False, True], ids=["the batch's positives alone", "with hard negatives"])
def test_in_batch_cross_entropy(hard: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    query, good, bad = (torch.randn(6, 8, generator=generator) for _ in range(3))
    query.requires_grad_()
    passages = [good, bad] if hard else [good]
    loss = text_losses.MultipleNegativesRankingLoss(None, scale=20.0)
    theirs = loss.compute_loss_from_embeddings([query, *passages], torch.zeros(0))
    joined = torch.cat(passages)
    cosines = torch.nn.functional.cosine_similarity(query[:, None], joined[None], dim=2).reshape(-1, 1)
    query_of, passage_of = torch.arange(6).repeat_interleave(len(joined)), torch.arange(len(joined)).repeat(6)
    own = passage_of % 6 == query_of
    labels = torch.where(own, (passage_of < 6).float(), torch.nan)
    same(InBatchCrossEntropy(scale=20.0)(cosines, Targets(labels=labels, groups=query_of, own=own)), theirs, query)
