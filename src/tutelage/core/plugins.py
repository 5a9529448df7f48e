"""Plugins: load strategies and teachers of other packages through Python's entry points.

A group of entry points holds the plugins of one kind (`tutelage.strategies`, `tutelage.teachers`).
Reading the groups searches every installed package, which takes tens of milliseconds, so nothing
here is called for a built-in name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tutelage.core.errors import TutelageError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, slots=True)
class Plugin:
    """One loaded entry point.

    factory: the object that it names, which makes a strategy or a teacher when it is called
    source:  its distribution and entry point, for messages
    """

    factory: Callable[..., Any]
    source: str

    def make(self, members: Sequence[str], *arguments: object) -> Any:
        """The factory's result for `arguments`.

        members: names that the result must have. They are looked up without running properties.

        Raises UsageError where the factory fails or a member is missing. A TutelageError of the
        factory is raised unchanged.
        """
        try:
            made = self.factory(*arguments)
        except TutelageError:
            raise
        # Any other exception is the plugin's fault, not Tutelage's.
        except Exception as error:
            raise UsageError(f"{self.source}: failed: {_one_line(error)}") from error
        missing = [name for name in members if not _has(made, name)]
        if missing:
            raise UsageError(
                f"{self.source}: returned {type(made).__name__!r} without {', '.join(missing)}: "
                "expected every member of the protocol in docs/plugins.md"
            )
        return made


def plugin_names(group: str, built_in: Collection[str]) -> list[str]:
    """The names in a group, sorted. Raises UsageError where one of them is built in."""
    return sorted({point.name for point in _points(group, built_in)})


def load_plugin(group: str, name: str, built_in: Collection[str]) -> Plugin | None:
    """The plugin of that name, or None where there is none.

    built_in: names that no plugin may take

    Raises UsageError for a name that is built in or that two packages offer, and for a plugin that
    cannot be imported or called.
    """
    points = [point for point in _points(group, built_in) if point.name == name]
    if not points:
        return None
    if len(points) > 1:
        raise UsageError(
            f"{' and '.join(map(_source, points))} both offer {name!r}: uninstall one of them"
        )
    source = _source(points[0])
    try:
        factory = points[0].load()
    except Exception as error:
        raise UsageError(
            f"{source}: cannot be imported: {_one_line(error)}: repair or uninstall the package"
        ) from error
    if not callable(factory):
        raise UsageError(f"{source}: got {type(factory).__name__!r}, expected a callable")
    return Plugin(factory, source)


def _points(group: str, built_in: Collection[str]) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    points = list(entry_points(group=group))
    for point in points:
        if point.name in built_in:
            raise UsageError(
                f"{_source(point)}: the name {point.name!r} is built in: rename the entry point "
                "or uninstall the package"
            )
    return points


def _source(point: EntryPoint) -> str:
    owner = "an unknown package" if point.dist is None else f"package {point.dist.name!r}"
    return f"{owner}, entry point '{point.name} = {point.value}' of {point.group}"


def _has(made: object, name: str) -> bool:
    absent = object()
    return inspect.getattr_static(made, name, absent) is not absent


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
