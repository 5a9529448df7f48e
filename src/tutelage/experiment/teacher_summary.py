"""`Results.teacher`: the rationales of an experiment, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.config.recipe import Recipe
from tutelage.core.results import ArmAnnotation, TeacherSummary, TokenCounts
from tutelage.experiment.learnt_rows import ArmRows
from tutelage.experiment.purchases import cost_of, counted_tokens
from tutelage.teacher.annotate import Annotation


def describe_teacher(
    recipe: Recipe, annotations: Mapping[str, Annotation], drawn: ArmRows | None = None
) -> TeacherSummary:
    """`Results.teacher`: the rationales. Arms with the same requests share their answers, which are
    counted once; what the teacher cost as a baseline is in `Baselines.teacher`.

    drawn: where each seed draws its rows: what was paid for, also by arms that share some requests
    """
    by_arm: dict[str, ArmAnnotation] = {}
    distinct: dict[tuple[Any, ...], Annotation] = {}
    first: dict[tuple[Any, ...], str] = {}
    for arm in recipe.arms:
        if arm.strategy is None:
            continue
        annotation = annotations[arm.name]
        distinct[arm.annotation_key] = annotation
        owner = first.setdefault(arm.annotation_key, arm.name)
        teacher = recipe.teacher_of(arm)
        by_arm[arm.name] = ArmAnnotation(
            model=teacher.model if arm.asks_teacher and teacher is not None else None,
            statuses=dict(annotation.counts),
            requests=annotation.requests,
            cached=annotation.cached,
            cost_usd=annotation.summary.cost_usd,
            shares_with=None if owner == arm.name else owner,
        )
    if drawn is not None:
        paid, sent = drawn.charges(), sum(a.requests for a in distinct.values())
        usage, cached = counted_tokens(paid), max(0, len(paid) - sent)
        counts = TokenCounts(usage.prompt_tokens, usage.completion_tokens)
        return TeacherSummary(sent, cached, counts, cost_of(paid), by_arm)
    tokens = [annotation.tokens for annotation in distinct.values()]
    costs = [annotation.summary.cost_usd for annotation in distinct.values()]
    return TeacherSummary(
        requests=sum(a.requests for a in distinct.values()),
        cached=sum(a.cached for a in distinct.values()),
        tokens=TokenCounts(
            prompt=total_or_none([t.prompt_tokens for t in tokens]),
            completion=total_or_none([t.completion_tokens for t in tokens]),
        ),
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        by_arm=by_arm,
    )


def total_or_none(counts: Sequence[int | None]) -> int | None:
    """The sum; None where one of them is unknown."""
    return None if None in counts else sum(count or 0 for count in counts)
