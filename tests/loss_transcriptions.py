"""The formulas of the papers, transcribed with loops over Python numbers and float64 scalars; slow and plain on purpose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pairstill.losses import Targets

NONE = float("nan")


def values(tensor: Tensor | None, count: int, default: float) -> list[float]:
    return [default] * count if tensor is None else [float(one) for one in tensor.reshape(-1)]


def members(groups: Tensor) -> list[list[int]]:
    codes = [int(one) for one in groups]
    return [[place for place, code in enumerate(codes) if code == wanted] for wanted in sorted(set(codes))]


def log1p_exp(x: Tensor) -> Tensor:
    return x + torch.log1p(torch.exp(-x)) if float(x.detach()) > 0 else torch.log1p(torch.exp(x))


def mean(terms: Sequence[tuple[Tensor, float]], zero: Tensor) -> Tensor:
    """Weighted mean; 0 of nothing."""
    whole = sum(weight for _, weight in terms)
    return sum((term * weight for term, weight in terms), zero * 0) / (whole or 1.0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def binary_cross_entropy(z: Tensor, y: float) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) of p = sigmoid(z)."""
    return y * log1p_exp(-z) + (1 - y) * log1p_exp(z)


def class_cross_entropy(z: Tensor, q: Sequence[float]) -> Tensor:
    """-sum_k q_k log p_k of p = softmax(z)."""
    top = z.detach().max()
    normaliser = top + torch.log(sum(torch.exp(one - top) for one in z))
    return sum(-share * (one - normaliser) for share, one in zip(q, z, strict=True))


def distillation(s: Tensor, t: Targets, temperature: float, hard_weight: float) -> Tensor:
    w, labels, terms = values(t.weights, len(s), 1.0), values(t.labels, len(s), NONE), []
    for row in range(len(s)):
        teacher = [float(one) / temperature for one in t.teacher_logits[row]]
        label = labels[row]
        if s.shape[1] == 1:
            term = binary_cross_entropy(s[row, 0], sigmoid(teacher[0]))
            hard = binary_cross_entropy(s[row, 0], label)
        else:
            term = class_cross_entropy(s[row], softmax(teacher))
            hard = class_cross_entropy(s[row], [float(k == label) for k in range(s.shape[1])])
        if hard_weight and not math.isnan(label):
            term = (1 - hard_weight) * term + hard_weight * hard
        terms.append((term, w[row]))
    return mean(terms, s.sum())


def label_cross_entropy(s: Tensor, t: Targets) -> Tensor:
    w, labels, terms = values(t.weights, len(s), 1.0), values(t.labels, len(s), NONE), []
    for row, label in enumerate(labels):
        if not math.isnan(label):
            one = binary_cross_entropy(s[row, 0], label) if s.shape[1] == 1 else class_cross_entropy(
                s[row], [float(k == label) for k in range(s.shape[1])])  # fmt: skip
            terms.append((one, w[row]))
    return mean(terms, s.sum())


def prediction(s: Tensor, t: Targets, temperature: float) -> Tensor:
    """TinyBERT's code: log-softmax of z_S / T against softmax of z_T / T, mean over tuples and classes; one output is (0, z)."""
    w, terms = values(t.weights, len(s), 1.0), []
    for row in range(len(s)):
        teacher, student = [float(one) / temperature for one in t.teacher_logits[row]], s[row] / temperature
        if s.shape[1] == 1:
            teacher, student = [0.0, *teacher], torch.cat([student.new_zeros(1), student])
        terms.append((class_cross_entropy(student, softmax(teacher)) / len(teacher), w[row]))
    return mean(terms, s.sum())


def squared_error(s: Tensor, t: Targets, probabilities: bool, temperature: float = 1.0) -> Tensor:
    w, terms = values(t.weights, len(s), 1.0), []
    for row in range(len(s)):
        outputs = s.shape[1]
        mine, wanted = s[row], t.teacher_logits[row].double()
        if probabilities and outputs == 1:
            mine = torch.sigmoid(mine)
            wanted = wanted if t.score_kind == "probability" else torch.sigmoid(wanted / temperature)
        elif probabilities:
            mine = torch.exp(mine - mine.max()) / torch.exp(mine - mine.max()).sum()
            wanted = wanted if t.score_kind == "probability" else torch.softmax(wanted / temperature, 0)
        terms.append((sum((mine[k] - wanted[k]) ** 2 for k in range(outputs)) / outputs, w[row]))
    return mean(terms, s.sum())


def ranknet(s: Tensor, t: Targets, order: str, weighted: bool = False) -> Tensor:
    s, scores = s[:, 0], values(t.teacher_logits, len(s), 0.0)
    good = scores if order == "teacher" else values(t.labels, len(s), NONE)
    w, terms = values(t.weights, len(s), 1.0), []
    for group in members(t.groups):
        for i, j in itertools.permutations(group, 2):
            if good[i] > good[j]:
                factor = scores[i] - scores[j] if weighted else 1.0
                terms.append((factor * log1p_exp(-(s[i] - s[j])), w[i] * w[j]))
    return mean(terms, s.sum())


def margin_mse(s: Tensor, t: Targets) -> Tensor:
    s, scores, w, terms = s[:, 0], values(t.teacher_logits, len(s), 0.0), values(t.weights, len(s), 1.0), []
    for group in members(t.groups):
        for i, j in itertools.combinations(group, 2):
            terms.append((((s[i] - s[j]) - (scores[i] - scores[j])) ** 2, w[i] * w[j]))
    return mean(terms, s.sum())


def softmax(numbers: Sequence[float]) -> list[float]:
    top = max(numbers)
    powers = [math.exp(one - top) for one in numbers]
    return [one / sum(powers) for one in powers]


def listwise(s: Tensor, t: Targets, temperature: float, order: str, divergence: bool) -> Tensor:
    s, w, terms = s[:, 0], values(t.weights, len(s), 1.0), []
    good = values(t.teacher_logits if order == "teacher" else t.labels, len(s), NONE)
    for group in members(t.groups):
        group = [one for one in group if not math.isnan(good[one])]
        if len(group) < 2:
            continue
        q, top = softmax([good[one] / temperature for one in group]), max(float(s[one].detach()) for one in group)
        normaliser = top + torch.log(sum(torch.exp(s[one] - top) for one in group))
        term = s.sum() * 0
        for share, one in zip(q, group, strict=True):
            if share > 0:
                term = term + share * ((math.log(share) if divergence else 0.0) - (s[one] - normaliser))
        terms.append((term, sum(w[one] for one in group) / len(group)))
    return mean(terms, s.sum())


def lambda_loss(s: Tensor, t: Targets, scheme: str, sigma: float, mu: float, temperature: float, order: str) -> Tensor:
    s, w, terms = s[:, 0], values(t.weights, len(s), 1.0), []
    if order == "labels":
        y = values(t.labels, len(s), NONE)
    else:
        y = values(t.teacher_logits, len(s), NONE)
        if t.score_kind == "logit":
            y = [sigmoid(one / temperature) for one in y]

    def discount(rank: int) -> float:
        return math.log2(1 + rank)

    for group in members(t.groups):
        group = [one for one in group if not math.isnan(y[one])]
        ideal = sum(
            math.expm1(one * math.log(2)) / discount(place + 1)
            for place, one in enumerate(sorted((y[k] for k in group), reverse=True))
        )
        ranking = sorted(group, key=lambda one: -float(s[one].detach()))
        rank = {one: place + 1 for place, one in enumerate(ranking)}
        term, any_pair = s.sum() * 0, False
        for i, j in itertools.permutations(group, 2):
            if y[i] > y[j]:
                any_pair = True
                apart = abs(rank[i] - rank[j])
                delta = abs(1 / discount(apart) - 1 / discount(apart + 1))
                rho = abs(1 / discount(rank[i]) - 1 / discount(rank[j]))
                gain = abs(math.expm1(float(y[i]) * math.log(2)) - math.expm1(float(y[j]) * math.log(2))) / ideal
                weight = {"ndcg-loss2": delta, "lambdarank": rho, "ndcg-loss2++": rho + mu * delta}[scheme]
                term = term + weight * gain * log1p_exp(-sigma * (s[i] - s[j])) / math.log(2)
        if any_pair:
            terms.append((term, sum(w[one] for one in group) / len(group)))
    return mean(terms, s.sum())


def positive_cells(t: Targets, group: list[int]) -> list[int]:
    count = len(t.groups)
    label, score = values(t.labels, count, NONE), values(t.teacher_logits, count, NONE)
    own = [bool(one) for one in values(t.own, count, 1.0)]
    mine = [one for one in group if own[one]]
    if any(not math.isnan(label[one]) for one in mine):
        return [one for one in mine if label[one] > 0.5]
    known = [one for one in mine if not math.isnan(score[one])]
    return [max(known, key=lambda one: score[one])] if known else []


def in_batch_cross_entropy(s: Tensor, t: Targets, scale: float) -> Tensor:
    s, label, w, terms = s[:, 0], values(t.labels, len(s), NONE), values(t.weights, len(s), 1.0), []
    for group in members(t.groups):
        positive = positive_cells(t, group)
        negative = [one for one in group if one not in positive and not label[one] > 0.5]
        for one in positive if negative else []:
            cells = [scale * s[each] for each in [one, *negative]]
            top = max(float(each.detach()) for each in cells)
            terms.append((top + torch.log(sum(torch.exp(each - top) for each in cells)) - cells[0], w[one]))
    return mean(terms, s.sum())


def in_batch_margin_mse(s: Tensor, t: Targets, share: float) -> Tensor:
    s, score, w = s[:, 0], values(t.teacher_logits, len(s), NONE), values(t.weights, len(s), 1.0)
    own, pair, crossing = [bool(one) for one in values(t.own, len(s), 1.0)], [], []
    for group in members(t.groups):
        positive = positive_cells(t, group)
        known = [one for one in group if not math.isnan(score[one])]
        for i, j in itertools.permutations(known, 2):
            term = (((s[i] - s[j]) - (score[i] - score[j])) ** 2, w[i] * w[j])
            if own[i] and own[j] and i < j:
                pair.append(term)
            if i in positive and not own[j]:
                crossing.append(term)
    return mean(pair, s.sum()) + share * mean(crossing, s.sum())
