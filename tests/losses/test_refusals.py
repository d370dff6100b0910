"""What losses do not take, and what they say."""

from __future__ import annotations

import re

import pytest
import torch

from pairstill.errors import InputError
from pairstill.losses import (
    LOSSES,
    DistillationLoss,
    LabelCrossEntropy,
    LambdaLoss,
    ListNet,
    Loss,
    MarginMSE,
    Mixture,
    RankNet,
    Targets,
    make_loss,
)

TWO = torch.zeros(2, 1)
TOGETHER = torch.zeros(2, dtype=torch.long)
TAKEN = {
    "cross-entropy": "logit", "mse-logit": "logit other", "mse-probability": "logit probability", "prediction": "logit",
    "ranknet": "logit probability other", "weighted-ranknet": "logit other", "margin-mse": "logit other",
    "in-batch-margin-mse": "logit other", "listwise-kl": "logit other", "listnet": "logit other",
    "lambdaloss": "logit probability", "in-batch-cross-entropy": "logit probability other",
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda one: one.name)
@pytest.mark.parametrize("kind", ["logit", "probability", "other"])
def test_kinds(loss: type[Loss], kind: str) -> None:
    labels = torch.tensor([0.0, 1.0])
    targets = Targets(torch.tensor([[0.0], [1.0]]), labels, None, TOGETHER, score_kind=kind)
    if kind in TAKEN[loss.name].split():
        assert torch.isfinite(loss()(TWO, targets))
    else:
        with pytest.raises(
            InputError, match=f"'{loss.name}' does not take teacher scores of kind '{kind}': .*Expected: scores of kind"
        ):
            loss()(TWO, targets)


def test_a_margin_loss_on_probabilities_says_why() -> None:
    with pytest.raises(
        InputError, match=r"a sigmoid presses sure scores together.*--kind probability`, which turns them into logits"
    ):
        MarginMSE()(TWO, Targets(TWO, groups=TOGETHER, score_kind="probability"))


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(2), Targets(TWO, groups=TOGETHER), "the logits have the shape (2,)"),
        (torch.zeros(2, 3), Targets(torch.zeros(2, 3), groups=TOGETHER), "compares tuples by one score, and 3 outputs"),
        (TWO, Targets(torch.zeros(3, 1), groups=TOGETHER), "scores have the shape (3, 1). Expected: (2, 1)"),
        (TWO, Targets(TWO), "says of none which group"),
        (TWO, Targets(TWO, groups=torch.zeros(3)), "the groups have the shape (3,). Expected: (2,)"),
        (TWO, Targets(groups=TOGETHER), "learns from a teacher, and the batch has no teacher scores"),
    ],
)
def test_shapes(logits: torch.Tensor, targets: Targets, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        MarginMSE()(logits, targets)


@pytest.mark.parametrize("loss", [one() for one in LOSSES], ids=lambda one: one.name)
def test_every_loss_looks_at_shapes_and_for_missing_scores(loss: Loss) -> None:
    labels = torch.tensor([0.0, 1.0])
    with pytest.raises(InputError, match=re.escape("the logits have the shape (2,). Expected: (tuples, outputs)")):
        loss(torch.zeros(2), Targets(TWO, labels, None, TOGETHER))
    with pytest.raises(InputError, match=re.escape("the weights have the shape (3,)")):
        loss(TWO, Targets(TWO, labels, torch.ones(3), TOGETHER))
    if loss.learns_teacher:
        with pytest.raises(InputError, match=re.escape("scores have the shape (3, 1). Expected: (2, 1)")):
            loss(TWO, Targets(torch.zeros(3, 1), labels, None, TOGETHER))
        if loss.unit != "in-batch":
            with pytest.raises(InputError, match="a teacher's score of the batch is not a number"):
                loss(TWO, Targets(torch.tensor([[0.0], [float("nan")]]), labels, None, TOGETHER))


@pytest.mark.parametrize(
    "loss", [DistillationLoss(hard_weight=1.0), DistillationLoss(hard_weight=0.5), LabelCrossEntropy()]
)
@pytest.mark.parametrize(
    ("outputs", "label", "message"),
    [
        (1, 3.0, "a label is 3. Expected: 0 to 1"),
        (3, 3.0, "the number of a class, 0 to 2"),
        (3, 0.5, "a label is 0.5. Expected: the number"),
    ],
)
def test_labels_that_are_none(loss: Loss, outputs: int, label: float, message: str) -> None:
    logits = torch.zeros(2, outputs)
    with pytest.raises(InputError, match=re.escape(message)):
        loss(logits, Targets(logits if loss.learns_teacher else None, torch.tensor([float("nan"), label])))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cross-entropy", {"temperature": 2.0, "hard_weight": 1.0}, "the temperature is 2 and --hard-weight 1"),
        ("listnet", {"temperature": 2.0, "hard_weight": 1.0}, "the temperature is 2 and --hard-weight 1"),
        (
            "lambdaloss",
            {"temperature": 2.0, "settings": {"order": "labels"}},
            "the temperature is 2 and the order that of labels",
        ),
        ("margin", {}, "there is no loss 'margin'. Expected: one of cross-entropy"),
        ("margin-mes", {}, "Did you mean 'margin-mse'?"),
        ("margin-mse", {"temperature": 2.0}, "has no temperature, and 2 is given"),
        ("margin-mse", {"settings": {"mu": 1}}, "has no setting 'mu'. Expected: none"),
        ("lambdaloss", {"settings": {"nu": 1}}, "has no setting 'nu'. Expected: one of scheme, sigma, mu, order"),
        ("lambdaloss", {"settings": {"mu": "high"}}, "is 'high'. Expected: such as 10.0"),
        ("lambdaloss", {"settings": {"scheme": "ndcg"}}, "the scheme is 'ndcg'"),
        ("lambdaloss", {"settings": {"sigma": 0}}, "sigma is 0"),
        ("ranknet", {"settings": {"order": "chance"}}, "the order is to come from 'chance'"),
        ("ranknet", {"settings": {"order": "labels"}, "hard_weight": 0.5}, "learns from labels already"),
        (
            "in-batch-cross-entropy",
            {"hard_weight": 1.0},
            "Leave out --hard-weight; labels are learnt without --scores, too",
        ),
        ("margin-mse", {"hard_weight": 1.5}, "the weight of hard labels is 1.5"),
        ("listwise-kl", {"temperature": 0.0}, "the temperature is 0.0"),
        ("in-batch-cross-entropy", {"settings": {"scale": -1}}, "the scale is -1"),
        ("in-batch-margin-mse", {"settings": {"weight": -1}}, "the in-batch term is -1"),
    ],
)
def test_names_and_settings(name: str, given: dict, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make_loss(name, **given)


def test_made_losses() -> None:
    assert make_loss("listnet", temperature=2.0) == ListNet(2.0)
    assert make_loss("lambdaloss", settings={"scheme": "lambdarank", "mu": 5}) == LambdaLoss("lambdarank", mu=5)
    mixed = make_loss("margin-mse", hard_weight=0.2)
    assert mixed == Mixture(MarginMSE(), RankNet("labels"), 0.2)
    assert (mixed.unit, mixed.several_outputs) == ("groups", False)
    assert mixed.description()["soft"] == {"name": "margin-mse"}
    for name in ("margin-mse", "ranknet", "weighted-ranknet"):
        assert make_loss(name, hard_weight=1.0) == RankNet("labels")
    assert make_loss("listnet", hard_weight=1.0) == ListNet(order="labels")
    assert make_loss("lambdaloss", hard_weight=1.0, settings={"sigma": 2.0}) == LambdaLoss(sigma=2.0, order="labels")
    assert make_loss("ranknet", hard_weight=1.0, settings={"order": "labels"}) == RankNet("labels")
    assert make_loss(temperature=2.0).description() == {"temperature": 2.0, "hard_weight": 0.0}


def test_other_mistakes() -> None:
    with pytest.raises(InputError, match="learns from the teacher"):
        Mixture(MarginMSE(), RankNet(), 0.5)
    with pytest.raises(InputError, match="a relevance is outside 0 to 1"):
        LambdaLoss(order="labels")(TWO, Targets(TWO, torch.tensor([0.0, 3.0]), None, TOGETHER))
    with pytest.raises(InputError, match="a teacher's probability is outside"):
        make_loss("mse-probability")(TWO, Targets(TWO + 2, score_kind="probability"))
    with pytest.raises(InputError, match="the temperature is 2 and the scores are probabilities"):
        LambdaLoss(temperature=2.0)(TWO, Targets(TWO, groups=TOGETHER, score_kind="probability"))
    with pytest.raises(InputError, match="the scores are probabilities"):
        make_loss("mse-probability", temperature=2.0)(TWO, Targets(TWO, score_kind="probability"))
    with pytest.raises(InputError, match="the batch has no labels"):
        RankNet("labels")(TWO, Targets(TWO, groups=TOGETHER))
