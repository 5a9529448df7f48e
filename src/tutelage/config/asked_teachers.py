"""The teachers of a recipe that can be asked anything, each once."""

from __future__ import annotations

from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.strategies.lookup import get_strategy

_DECISIVE = {
    *("model", "base_url", "provider", "temperature", "seed", "max_tokens", "top_p"),
    *("structured", "reasoning_effort", "extra_body"),
}


def teachers_of(recipe: Recipe) -> list[TeacherSettings]:
    """The teachers that arms use, each once: by everything that decides what a teacher answers."""
    task = recipe.resolved_task()
    found: dict[str, TeacherSettings] = {}
    for arm in recipe.arms:
        if arm.strategy is None:
            continue
        strategy = get_strategy(arm.strategy, template=arm.template, task=task)
        for section in (recipe.teacher_of(arm), arm.agrees_with):
            if strategy.asks_teacher and section is not None:
                if isinstance(section.base_url, tuple):  # whatever their order
                    ordered = section.replace(base_url=tuple(sorted(section.base_url)))
                else:
                    ordered = section
                found.setdefault(ordered.model_dump_json(include=_DECISIVE), section)
    return list(found.values())
