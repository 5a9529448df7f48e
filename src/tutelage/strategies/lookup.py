"""Strategies by name: those built in, and those of installed plugins (docs/plugins.md)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from tutelage.core.errors import UsageError
from tutelage.core.plugins import load_plugin, plugin_names
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.strategies.chain_of_thought import ChainOfThought
from tutelage.strategies.from_data import Human, Recorded
from tutelage.strategies.information_extraction import InformationExtraction
from tutelage.strategies.informed_reasoning import InformedReasoning
from tutelage.strategies.row_label import RowLabel
from tutelage.strategies.strategy import Strategy, is_refusal, status_of
from tutelage.strategies.template import Template

__all__ = [
    "BUILT_IN",
    "Strategy",
    "get_strategy",
    "is_refusal",
    "labels_rows",
    "status_of",
    "strategy_names",
]

GROUP = "tutelage.strategies"
"""The group of entry points in which plugins offer strategies."""

_FIXED: Mapping[str, Callable[[], Strategy]] = {
    InformationExtraction.name: InformationExtraction,
    InformedReasoning.name: InformedReasoning,
    Human.name: Human,
    Recorded.name: Recorded,
}

_LABELLING: Mapping[str, Callable[[Task | None, Sequence[Example]], Strategy]] = {
    RowLabel.name: RowLabel,
    ChainOfThought.name: ChainOfThought,
}

BUILT_IN: tuple[str, ...] = (*_FIXED, *_LABELLING, Template.name)
"""The names that a recipe may give where no plugin is installed."""

_MEMBERS = [n for n in vars(Strategy) if not n.startswith("_") and n != "labels_rows"]
"""What a plugin's strategy must have."""


def strategy_names() -> tuple[str, ...]:
    """The names that a recipe may give: the built-in ones, then those of plugins.

    Raises UsageError for a plugin that claims a built-in name.
    """
    return (*BUILT_IN, *plugin_names(GROUP, BUILT_IN))


def labels_rows(strategy: Strategy) -> bool:
    """Whether a strategy labels rows without seeing their gold label; a plugin need not say it."""
    return bool(getattr(strategy, "labels_rows", False))


def get_strategy(
    name: str,
    *,
    template: str | None = None,
    task: Task | None = None,
    shots: Sequence[Example] = (),
) -> Strategy:
    """The strategy of that name.

    template: the Jinja text, for the strategy `template` alone.
    task:     where it is given, the template is tried on it at once, and answers of strategies
              that label rows have a schema.
    shots:    labelled rows for the prompt; only strategies that label rows show them, and others
              take no notice.

    Raises UsageError for an unknown name, a missing or superfluous template, a template that does
    not render, and a plugin that does not keep to the protocol `Strategy`.
    """
    if name == Template.name:
        if template is None:
            raise UsageError("strategy 'template' needs the prompt itself: give it as `template:`")
        return Template(template, task)
    if name in _LABELLING:
        strategy: Strategy | None = _LABELLING[name](task, shots)
    else:
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
    plugin = load_plugin(GROUP, name, BUILT_IN)
    if plugin is None:
        return None
    strategy: Strategy = plugin.make(_MEMBERS)
    if strategy.name != name:
        raise UsageError(
            f"{plugin.source}: the strategy's name is {strategy.name!r}, expected {name!r}, the "
            "entry point's"
        )
    return strategy
