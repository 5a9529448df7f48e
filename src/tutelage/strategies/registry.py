"""Ways to ask a teacher for a rationale, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from tutelage.core.errors import UsageError
from tutelage.core.task import Task
from tutelage.strategies.from_data import Human, Recorded
from tutelage.strategies.information_extraction import InformationExtraction
from tutelage.strategies.informed_reasoning import InformedReasoning
from tutelage.strategies.strategy import Strategy, is_refusal, status_of
from tutelage.strategies.template import Template

__all__ = ["STRATEGIES", "Strategy", "get_strategy", "is_refusal", "status_of"]

_FIXED: Mapping[str, Callable[[], Strategy]] = {
    InformationExtraction.name: InformationExtraction,
    InformedReasoning.name: InformedReasoning,
    Human.name: Human,
    Recorded.name: Recorded,
}

STRATEGIES: tuple[str, ...] = (*_FIXED, Template.name)
"""The names that a recipe may give."""


def get_strategy(name: str, *, template: str | None = None, task: Task | None = None) -> Strategy:
    """The strategy of that name.

    template: the Jinja text, for the strategy `template` alone.
    task:     where it is given, the template is tried on it at once.

    Raises UsageError for an unknown name, a missing or superfluous template, or one that fails.
    """
    if name == Template.name:
        if template is None:
            raise UsageError("strategy 'template' needs the prompt itself: give it as `template:`")
        return Template(template, task)
    factory = _FIXED.get(name)
    if factory is None:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), STRATEGIES, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ":"
        raise UsageError(f"unknown strategy {name!r}{hint} There are {', '.join(STRATEGIES)}")
    if template is not None:
        raise UsageError(f"strategy {name!r} takes no template: only 'template' does")
    return factory()
