"""The rules of a fair experiment that a recipe could break: its controls, baselines and seeds.

A rationale arm is held against controls, which learn a target of the same kind without what the
teacher said. Arms that a recipe lists under `controls` and `baselines` and does not write out are
added here; what is then still missing is a departure, for which the recipe has to state a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from tutelage.config.sections import NAME, ArmSection, BaselineName
from tutelage.core.task import NLI, Task
from tutelage.core.types import ControlName, ObjectiveName

CONTROLS: tuple[ControlName, ...] = ("shuffled", "label_echo", "filler")
"""What every rationale arm is held against, unless a recipe says why not."""

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)

SHUFFLED: frozenset[ControlName] = frozenset({"shuffled", "shuffled_within_label"})
"""Controls with other rows' rationales: those that the primary comparisons are made with."""

FEWEST_SEEDS = 2


@dataclass(frozen=True, slots=True)
class Departure:
    """A rule that a recipe leaves: its name in `departures`, what is not as it says, and why."""

    rule: str
    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what} ({self.reason})"


def rationale_arms(arms: Sequence[ArmSection]) -> list[ArmSection]:
    """The arms whose worth is in question: with a strategy, and no control."""
    return [arm for arm in arms if arm.strategy is not None and arm.control is None]


def equal_names(arms: Sequence[ArmSection]) -> list[str]:
    """One line for each pair of arms that would share a folder: some file systems ignore case."""
    names: dict[str, str] = {}
    lines = []
    for arm in arms:
        first = names.get(arm.name.lower())
        if first is None:
            names[arm.name.lower()] = arm.name
        elif first == arm.name:
            lines.append(f"two are named {first!r}")
        else:
            lines.append(
                f"{first!r} and {arm.name!r} differ only in case, and some systems would give them "
                "one folder: rename one"
            )
    return lines


def controls_of(arm: ArmSection, arms: Sequence[ArmSection]) -> list[ArmSection]:
    """The controls of a rationale arm, in the order of `arms`.

    They put its question and have its objective. A label echo says nothing of the explanation:
    where an arm has none with its own question, the first one of its objective serves.
    """
    own = [c for c in arms if c.control is not None and _alike(c, arm)]
    if not any(c.control == "label_echo" for c in own):
        own += [
            c
            for c in arms
            if c.control == "label_echo" and c.effective_objective == arm.effective_objective
        ][:1]
    return own


def completed(
    arms: Sequence[ArmSection],
    controls: Sequence[ControlName],
    baselines: Sequence[BaselineName],
    task: Task | None,
) -> list[ArmSection]:
    """`arms`, and those that `controls` and `baselines` ask for and that are not among them.

    ARM-shuffled and ARM-filler follow their arm; then label-echo (one serves all arms of an
    objective: label-echo-OBJECTIVE where there are several), then the student without the context.
    An arm of objective `label` learns no rationale, and gets no control. Completing the result
    again changes nothing. task: None where it is not known, and no field can be left out.

    Raises ValueError where an added arm's name is taken, or too long.
    """
    complete = list(arms)
    taught = _taught(arms)
    objectives = {arm.effective_objective for arm in taught}
    for arm in taught:
        for control in controls:
            present = controls_of(arm, complete)
            if any(c.control == control for c in present):
                continue
            echo = control == "label_echo"
            name = _echo_name(arm, objectives) if echo else f"{arm.name}-{_hyphens(control)}"
            _check_name(name, complete, f"the control {control} of {arm.name!r}")
            # Of what belongs to the arm the last place; an echo belongs to several.
            own = [arm, *(c for c in present if c.control != "label_echo")]
            place = len(complete) if echo else 1 + max(complete.index(one) for one in own)
            complete.insert(place, arm.model_copy(update={"name": name, "control": control}))
    if "omitted_context" in baselines and task is not None and not _has_omitted(complete, task):
        assert task.context is not None
        name = "hypothesis-only" if task == NLI else f"without-{_hyphens(task.context)}"
        _check_name(name, complete, "the baseline omitted_context")
        complete.append(ArmSection(name=name, omits=(task.context,)))
    return complete


def broken(
    arms: Sequence[ArmSection],
    baselines: Sequence[BaselineName],
    seeds: Sequence[int],
    task: Task | None,
) -> dict[str, str]:
    """What is not as the rules say, by rule; `arms` are the completed ones."""
    found = {
        "controls": _missing_controls(arms),
        "baselines": _missing_baselines(arms, baselines, task),
        "seeds": ""
        if len(seeds) >= FEWEST_SEEDS
        else f"{len(seeds)} seed, which says nothing beyond one training",
    }
    return {rule: what for rule, what in found.items() if what}


def problems(breaches: Mapping[str, str], reasons: Mapping[str, str | None]) -> list[str]:
    """A line for each breach without a reason, and for each reason without a breach."""
    lines = [
        f'{rule}: {what}: {_WAYS_OUT[rule]}, or say why not: departures: {{{rule}: "your reason"}}'
        for rule, what in breaches.items()
        if reasons.get(rule) is None
    ]
    lines += [
        f"departures.{rule}: gives a reason, but the recipe keeps to this rule: leave it out"
        for rule, reason in reasons.items()
        if reason is not None and rule not in breaches
    ]
    return lines


_WAYS_OUT: Mapping[str, str] = {
    "controls": f"every rationale arm needs them (controls: [{', '.join(CONTROLS)}], the default)",
    "baselines": f"all belong to an experiment (baselines: [{', '.join(BASELINES)}], the default)",
    "seeds": "name two or more (seeds: [0, 1, 2, 3, 4] is the default)",
}


def _alike(one: ArmSection, other: ArmSection) -> bool:
    same = one.effective_objective == other.effective_objective
    return same and one.annotation_key == other.annotation_key


def _taught(arms: Sequence[ArmSection]) -> list[ArmSection]:
    return [arm for arm in rationale_arms(arms) if arm.effective_objective != "label"]


def _missing_controls(arms: Sequence[ArmSection]) -> str:
    taught = _taught(arms)
    parts = []
    for control in CONTROLS:
        counts: frozenset[ControlName] = SHUFFLED if control in SHUFFLED else frozenset({control})
        without = [
            arm.name
            for arm in taught
            if not any(c.control in counts for c in controls_of(arm, arms))
        ]
        if without:
            whose = "" if len(without) == len(taught) else f" for {', '.join(without)}"
            parts.append(f"no {control} control{whose}")
    return "; ".join(parts)


def _missing_baselines(
    arms: Sequence[ArmSection], baselines: Sequence[BaselineName], task: Task | None
) -> str:
    asks = any(arm.strategy != "human" for arm in rationale_arms(arms))
    applies: Mapping[BaselineName, Callable[[], bool]] = {
        "majority": lambda: True,
        "omitted_context": lambda: task is not None and not _has_omitted(arms, task),
        "teacher_labels": lambda: asks,
        "teacher": lambda: asks,
    }
    missing = [name for name in BASELINES if name not in baselines and applies[name]()]
    return f"no {', no '.join(missing)}" if missing else ""


def _has_omitted(arms: Sequence[ArmSection], task: Task) -> bool:
    """Whether a student without the context is among the arms, or makes no sense in this task."""
    if task.context is None or len(task.fields) == 1:
        return True
    return any(arm.omits == (task.context,) for arm in arms)


def _echo_name(arm: ArmSection, objectives: set[ObjectiveName]) -> str:
    return f"label-echo-{arm.effective_objective}" if len(objectives) > 1 else "label-echo"


def _hyphens(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)


def _check_name(name: str, arms: Sequence[ArmSection], whose: str) -> None:
    if any(arm.name.lower() == name.lower() for arm in arms):
        raise ValueError(
            f"{whose} would be named {name!r}, as another arm is: give that one another name"
        )
    if not NAME.fullmatch(name):
        raise ValueError(f"{whose} would be named {name!r}, which is too long: shorten the arm's")
