"""Teachers by scheme: the part of `TeacherSettings.model` before the colon, and its client."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from tutelage.core.errors import UsageError
from tutelage.teacher.teacher import Teacher, TeacherSettings


def _openai(name: str, settings: TeacherSettings, base: Path | None) -> Teacher:
    from tutelage.teacher.clients.openai_api import OpenAITeacher

    return OpenAITeacher(name, settings)


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


_SCHEMES: Mapping[str, tuple[str, Callable[[str, TeacherSettings, Path | None], Teacher]]] = {
    "openai": ("openai:MODEL", _openai),
    "gguf": ("gguf:PATH", _gguf),
    "package": ("package:PACKAGE/FILE", _package),
    "recorded": ("recorded:FILE#KEY", _recorded),
    "scripted": ("scripted", _scripted),
}


_LOOKED_UP = frozenset({"recorded", "scripted"})


def is_looked_up(settings: TeacherSettings) -> bool:
    """Whether this teacher's answers are there already, so that it can be asked nothing else: its
    `Teacher.paid` is False. Known by the scheme, without reading the answers."""
    return settings.model.partition(":")[0] in _LOOKED_UP


def open_teacher(settings: TeacherSettings, base: Path | None = None) -> Teacher:
    """The teacher that `settings.model` describes, not yet opened.

    base: the folder that relative paths count from (a recipe's own); None: the current one.

    Raises UsageError where the description, or a file that it names, is wrong.
    """
    scheme, colon, name = settings.model.partition(":")
    forms = ", ".join(form for form, _ in _SCHEMES.values())
    if scheme not in _SCHEMES:
        near = difflib.get_close_matches(scheme.lower(), _SCHEMES, n=1)
        # A bare model name is the likeliest slip: most tools take one.
        guess = _SCHEMES[near[0]][0] if near else f"openai:{settings.model}"
        raise UsageError(
            f"teacher model {settings.model!r}: expected one of {forms}: did you mean {guess!r}?"
        )
    form, make = _SCHEMES[scheme]
    if (":" in form) != bool(name.strip()) or (colon and not name.strip()):
        raise UsageError(f"teacher model {settings.model!r}: expected the form {form!r}")
    return make(name.strip(), settings, base)
