"""All losses that train on stored scores, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from pairstill.errors import InputError, did_you_mean
from pairstill.losses.base import Loss
from pairstill.losses.cross_entropy import DistillationLoss
from pairstill.losses.in_batch_cross_entropy import InBatchCrossEntropy
from pairstill.losses.in_batch_margin_mse import InBatchMarginMSE
from pairstill.losses.label_cross_entropy import LabelCrossEntropy
from pairstill.losses.lambda_loss import LambdaLoss
from pairstill.losses.listnet import ListNet
from pairstill.losses.listwise_kl import ListwiseKL
from pairstill.losses.logit_squared_error import LogitSquaredError
from pairstill.losses.margin_mse import MarginMSE
from pairstill.losses.mixture import Mixture
from pairstill.losses.ordered_loss import OrderedLoss
from pairstill.losses.prediction_loss import PredictionLoss
from pairstill.losses.probability_squared_error import ProbabilitySquaredError
from pairstill.losses.ranknet import RankNet
from pairstill.losses.weighted_ranknet import WeightedRankNet

LOSSES: tuple[type[Loss], ...] = (
    DistillationLoss, LogitSquaredError, ProbabilitySquaredError, PredictionLoss, RankNet, WeightedRankNet, MarginMSE,
    InBatchMarginMSE, ListwiseKL, ListNet, LambdaLoss, InBatchCrossEntropy,
)  # fmt: skip


def make_loss(
    name: str = "cross-entropy",
    *,
    temperature: float = 1.0,
    hard_weight: float = 0.0,
    settings: Mapping[str, Any] | None = None,
) -> Loss:
    """A loss by its name.

    Args:
        name: As in `LOSSES`.
        temperature: Of the teacher's logits.
        hard_weight: Share of the labels' term. Cross-entropy mixes it tuple by tuple. Other losses on tuples are mixed with
            cross-entropy on labels, losses on groups with RankNet on labels, in-batch Margin-MSE too. With 1, a loss whose
            order labels can give is itself with that order; of the others, the labels' term alone is left.
        settings: Further settings of the loss, by name.

    Raises:
        InputError: There is no such loss or setting, or the loss has no such term.
    """
    found = next((one for one in LOSSES if one.name == name), None)
    if found is None:
        names = [one.name for one in LOSSES]
        raise InputError(
            f"there is no loss '{name}'", expected=f"one of {', '.join(names)}",
            fix=did_you_mean(name, names, 0.4),
        )  # fmt: skip
    known = {one.name: one.default for one in fields(found)}  # type: ignore[arg-type]
    given = dict(settings or {})
    for key, value in given.items():
        if key not in known or key in ("temperature", "hard_weight"):
            others = [one for one in known if one not in ("temperature", "hard_weight")]
            raise InputError(
                f"the loss '{name}' has no setting '{key}'",
                expected=f"one of {', '.join(others)}" if others else "none: it has no settings of its own",
            )
        if isinstance(value, bool) != isinstance(known[key], bool) or isinstance(value, str) != isinstance(
            known[key], str
        ):
            raise InputError(
                f"the setting '{key}' of the loss '{name}' is {value!r}", expected=f"such as {known[key]!r}"
            )
    if temperature != 1:
        if "temperature" not in known:
            having = ", ".join(one.name for one in LOSSES if "temperature" in {each.name for each in fields(one)})  # type: ignore[arg-type]
            raise InputError(
                f"the loss '{name}' has no temperature, and {temperature:g} is given", expected=f"1, or one of {having}"
            )
        if hard_weight == 1:
            raise InputError(
                f"the temperature is {temperature:g} and --hard-weight 1, which learns labels alone",
                expected="1: it divides a teacher's logits",
            )
        given["temperature"] = temperature
    if "hard_weight" in known:
        given["hard_weight"] = hard_weight
    loss = found(**given)
    if "hard_weight" in known or not hard_weight:
        return loss
    if hard_weight == 1 and isinstance(loss, OrderedLoss):
        by_labels = replace(loss, order="labels")  # type: ignore[type-var]
        if not by_labels.needs_teacher:
            return by_labels
    if not loss.needs_teacher:
        raise InputError(
            f"the loss '{name}' learns from labels already, and --hard-weight is {hard_weight:g}", expected="0",
            fix="Leave out --hard-weight; labels are learnt without --scores, too",
        )  # fmt: skip
    hard: Loss = LabelCrossEntropy() if loss.unit == "tuples" else RankNet("labels")
    return hard if hard_weight == 1 else Mixture(loss, hard, hard_weight)
