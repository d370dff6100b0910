"""What a reader must know before believing a table, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from pairstill.evaluation.results import Lead, SystemFacts, SystemResult

SIGNIFICANT = 0.05
SMALL_MARGIN = 0.1


def lead_between(leads: Sequence[Lead], one: str, two: str) -> Lead | None:
    """The test of a pair, whichever of them is ahead."""
    return next((lead for lead in leads if {lead.better, lead.other} == {one, two}), None)


def significantly_ahead(leads: Sequence[Lead], better: str, other: str) -> bool:
    """Whether `better` is ahead of `other` with p below 0.05."""
    lead = lead_between(leads, better, other)
    return lead is not None and lead.better == better and lead.p_value is not None and lead.p_value < SIGNIFICANT


def best_floor(facts: Sequence[SystemFacts], results: Sequence[SystemResult]) -> SystemResult | None:
    """The floor with the best compared value; `results` are best first."""
    floors = {one.name for one in facts if one.role == "floor"}
    return next((one for one in results if one.name in floors and one.compared is not None), None)


def verdict(
    facts: Sequence[SystemFacts],
    results: Sequence[SystemResult],
    leads: Sequence[Lead],
    title: str,
    *,
    lower_is_better: bool,
    resampled_groups: int,
) -> tuple[str, ...]:
    """Sentences on teacher and floors, students and floors, and the power of the test.

    Args:
        facts: All systems.
        results: Of one split, best first.
        leads: Of every pair.
        title: The headline metric's.
        lower_is_better: Whether it is a loss.
        resampled_groups: How many groups the bootstrap drew from.
    """
    by_name = {one.name: one for one in results}
    teacher = next((by_name[one.name] for one in facts if one.role == "teacher"), None)
    students = [one for one in results if one.name in {fact.name for fact in facts if fact.role == "student"}]
    floor = best_floor(facts, results)
    out: list[str] = []
    if teacher is None:
        out.append("No teacher was given: retention and agreement are unknown.")
    if floor is None:
        out.append("No floor was measured: whether these values beat systems without training is unknown.")
    elif floor.compared is not None:
        out += _about_floor(teacher, students, floor, leads, title, lower_is_better)
    if resampled_groups < 20:
        out.append(f"Significance rests on {resampled_groups} groups only: p-values are rough.")
    return tuple(out)


def _about_floor(
    teacher: SystemResult | None,
    students: Sequence[SystemResult],
    floor: SystemResult,
    leads: Sequence[Lead],
    title: str,
    lower_is_better: bool,
) -> list[str]:
    assert floor.compared is not None
    out: list[str] = []
    sign = -1.0 if lower_is_better else 1.0
    if teacher is not None and teacher.compared is not None:
        margin = sign * (teacher.compared - floor.compared)
        between = f"{title} {teacher.compared:.3f} against {floor.compared:.3f} of the best floor, {floor.name}"
        if margin <= 0:
            out.append(f"The teacher is not above the floors ({between}): retention figures mean nothing here.")
        elif not significantly_ahead(leads, teacher.name, floor.name):
            out.append(
                f"The teacher is not significantly above the floors ({between}): retention figures mean nothing here."
            )
        elif margin < SMALL_MARGIN * abs(teacher.compared):
            out.append(
                f"The teacher is only {margin / abs(teacher.compared):.1%} above the floors ({between}): high retention "
                "is easy here and says little. Read the share of the margin kept instead."
            )
    for one in students:
        if one.compared is None:
            out.append(f"{one.name} has no {title} here: {one.metrics[next(iter(one.metrics))].reason}.")
        elif sign * (one.compared - floor.compared) <= 0:
            out.append(
                f"{one.name} ({one.compared:.3f}) is not above the floor {floor.name} ({floor.compared:.3f}), which needs "
                "no training: treat that as a fault of the training."
            )
        elif not significantly_ahead(leads, one.name, floor.name):
            out.append(f"{one.name} is not significantly above the floor {floor.name}.")
    above = [one for one in students if one.compared is not None and sign * (one.compared - floor.compared) > 0]
    if students and not above:
        out.append("No student beats the floors.")
    return out
