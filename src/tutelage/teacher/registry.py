"""Teachers by scheme: the part of `TeacherSettings.model` before the colon, and what it opens.

Schemes are built in, or offered by installed plugins (docs/plugins.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import UsageError
from tutelage.core.plugins import load_plugin, plugin_names
from tutelage.teacher.teacher import Teacher

GROUP = "tutelage.teachers"
"""The group of entry points in which plugins offer teachers."""


def _server(name: str, settings: TeacherSettings, base: Path | None) -> Teacher:
    from tutelage.teacher.clients.http_api import ServerTeacher

    if not isinstance(settings.base_url, tuple):
        return ServerTeacher(name, settings)
    from tutelage.teacher.clients.server_pool import ServerPool, pool_identity

    if len(settings.base_url) > 1:
        return ServerPool(name, settings)
    alone = ServerTeacher(name, settings.each_server[0])
    alone.identity = pool_identity(settings)  # a list that has lost its other servers
    return alone


def _gguf(name: str, settings: TeacherSettings, base: Path | None) -> Teacher:
    from tutelage.core.model_files import find_file
    from tutelage.teacher.clients.llama_cpp import LocalTeacher

    return LocalTeacher(find_file(name, base), settings)


def _package(name: str, settings: TeacherSettings, base: Path | None) -> Teacher:
    from tutelage.core.model_files import find_in_package
    from tutelage.teacher.clients.llama_cpp import LocalTeacher

    return LocalTeacher(find_in_package(name), settings)


def _recorded(name: str, settings: TeacherSettings, base: Path | None) -> Teacher:
    from tutelage.teacher.clients.recorded import RecordedTeacher

    return RecordedTeacher(name, settings, base)


def _scripted(name: str, settings: TeacherSettings, base: Path | None) -> Teacher:
    from tutelage.teacher.clients.scripted import ScriptedTeacher

    return ScriptedTeacher(settings)


_Factory = Callable[[str, TeacherSettings, Path | None], Teacher]

_SCHEMES: Mapping[str, tuple[str, _Factory]] = {
    "openai": ("openai:MODEL", _server),
    "anthropic": ("anthropic:MODEL", _server),
    "gemini": ("gemini:MODEL", _server),
    "gguf": ("gguf:PATH", _gguf),
    "package": ("package:PACKAGE/FILE", _package),
    "recorded": ("recorded:FILE#KEY", _recorded),
    "scripted": ("scripted", _scripted),
}

_LOOKED_UP = frozenset({"recorded", "scripted"})
_MEMBERS = [
    *(name for name in vars(Teacher) if not name.startswith("_")),
    "__aenter__",
    "__aexit__",
]


def is_looked_up(settings: TeacherSettings) -> bool:
    """Whether this teacher only looks up answers that exist already, so that it cannot answer
    anything else: its `Teacher.paid` is False.

    Decided by the scheme, without opening the teacher: of a plugin, by the attribute `paid` of the
    class that its entry point names.
    """
    scheme = settings.model.partition(":")[0]
    if scheme in _SCHEMES:
        return scheme in _LOOKED_UP
    plugin = load_plugin(GROUP, scheme, _SCHEMES)
    return plugin is not None and getattr(plugin.factory, "paid", True) is False


def open_teacher(settings: TeacherSettings, base: Path | None = None) -> Teacher:
    """The teacher that `settings.model` describes, not yet opened.

    base: the folder that relative paths are resolved against (a recipe's own); None: the current
          one

    Raises UsageError where the description, or a file that it names, is wrong, and for a plugin
    that does not keep to the protocol `Teacher`.
    """
    scheme, colon, name = settings.model.partition(":")
    name = name.strip()
    if scheme in _SCHEMES:
        form, make = _SCHEMES[scheme]
        if (":" in form) != bool(name) or (colon and not name):
            raise UsageError(f"teacher model {settings.model!r}: expected the form {form!r}")
        return make(name, settings, base)
    plugin = load_plugin(GROUP, scheme, _SCHEMES)
    if plugin is None:
        raise _unknown(settings.model, scheme)
    teacher: Teacher = plugin.make(_MEMBERS, name, settings, base)
    return teacher


def _unknown(model: str, scheme: str) -> UsageError:
    forms = {name: form for name, (form, _) in _SCHEMES.items()}
    forms |= {name: f"{name}:…" for name in plugin_names(GROUP, _SCHEMES)}
    near = difflib.get_close_matches(scheme.lower(), forms, n=1)
    # A bare model name is the likeliest slip: most tools take one.
    guess = forms[near[0]] if near else f"openai:{model}"
    return UsageError(
        f"teacher model {model!r}: expected one of {', '.join(forms.values())}: "
        f"did you mean {guess!r}?"
    )
