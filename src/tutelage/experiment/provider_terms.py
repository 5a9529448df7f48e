"""Points to the terms of a recipe's teachers before any of them is paid."""

from __future__ import annotations

from tutelage.config.asked_teachers import teachers_of
from tutelage.config.recipe import Recipe
from tutelage.core.progress import Observer
from tutelage.teacher.terms_of_use import terms_note


def terms_of(recipe: Recipe) -> tuple[str, ...]:
    """Where it says whether students may be trained on the answers of the recipe's teachers: a line
    for each that is asked anything."""
    notes = (terms_note(settings) for settings in teachers_of(recipe))
    return tuple(dict.fromkeys(note for note in notes if note is not None))


def point_to_terms(recipe: Recipe, observer: Observer) -> None:
    """Say it, before anything is paid for."""
    for line in terms_of(recipe):
        observer.note(line)
