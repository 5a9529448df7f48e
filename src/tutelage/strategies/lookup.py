"""Strategies by name: those built in, and those of installed plugins (docs/plugins.md)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from tutelage.core.errors import UsageError
from tutelage.core.plugins import load_plugin, plugin_names
from tutelage.core.task import Task
from tutelage.strategies.from_data import Human, Recorded
from tutelage.strategies.information_extraction import InformationExtraction
from tutelage.strategies.informed_reasoning import InformedReasoning
from tutelage.strategies.labelling import Labelling
from tutelage.strategies.strategy import Strategy, is_refusal, status_of
from tutelage.strategies.template import Template

__all__ = ["BUILT_IN", "Strategy", "get_strategy", "is_refusal", "status_of", "strategy_names"]

GROUP = "tutelage.strategies"
"""The group of entry points in which plugins offer strategies."""

_FIXED: Mapping[str, Callable[[], Strategy]] = {
    InformationExtraction.name: InformationExtraction,
    InformedReasoning.name: InformedReasoning,
    Human.name: Human,
    Recorded.name: Recorded,
}

BUILT_IN: tuple[str, ...] = (*_FIXED, Template.name)
"""The names that a recipe may give where no plugin is installed."""

_RESERVED = (*BUILT_IN, Labelling.name)
_MEMBERS = [name for name in vars(Strategy) if not name.startswith("_")]


def strategy_names() -> tuple[str, ...]:
    """The names that a recipe may give: the built-in ones, then those of plugins.

    Raises UsageError for a plugin that claims a built-in name.
    """
    return (*BUILT_IN, *plugin_names(GROUP, _RESERVED))


def get_strategy(name: str, *, template: str | None = None, task: Task | None = None) -> Strategy:
    """The strategy of that name.

    template: the Jinja text, for the strategy `template` alone.
    task:     where it is given, the template is tried on it at once.

    Raises UsageError for an unknown name, a missing or superfluous template, a template that does
    not render, and a plugin that does not keep to the protocol `Strategy`.
    """
    if name == Template.name:
        if template is None:
            raise UsageError("strategy 'template' needs the prompt itself: give it as `template:`")
        return Template(template, task)
    strategy = _FIXED[name]() if name in _FIXED else _from_plugin(name)
    if strategy is None:
        known = strategy_names()
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ":"
        raise UsageError(f"unknown strategy {name!r}{hint} There are {', '.join(known)}")
    if template is not None:
        raise UsageError(f"strategy {name!r} takes no template: only 'template' does")
    return strategy


def _from_plugin(name: str) -> Strategy | None:
    plugin = load_plugin(GROUP, name, _RESERVED)
    if plugin is None:
        return None
    strategy: Strategy = plugin.make(_MEMBERS)
    if strategy.name != name:
        raise UsageError(
            f"{plugin.source}: the strategy's name is {strategy.name!r}, expected {name!r}, the "
            "entry point's"
        )
    return strategy
