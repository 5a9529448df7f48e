"""The experiment's protocol, as far as a recipe decides it: presets, controls, baselines, seeds.

A treatment arm is compared with controls, which learn a target of the same form without the
teacher's content. The arms that a recipe asks for under `controls` and `baselines` are added here
unless it lists them itself; where it says nothing, its preset (`protocol`) decides. What the preset
has and the recipe lacks is a departure, and the recipe has to give a reason for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tutelage.config.arm_settings import POOL_CONTROLS, ArmSection
from tutelage.config.sections import (
    NAME,
    Baseline,
    BaselineName,
    ClassifierSection,
    ProtocolName,
)
from tutelage.core.task import NLI, Task
from tutelage.core.types import ControlName, ObjectiveName

CONTROLS: tuple[ControlName, ...] = ("shuffled", "scrambled", "label_echo", "filler")
"""The controls that every treatment arm is compared with, unless the recipe gives a reason. A gain
has to exceed all of them but `scrambled`, which says what the words bring without the reasoning."""

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)

SHUFFLED: frozenset[ControlName] = frozenset({"shuffled", "shuffled_within_label"})
"""Controls with other rows' rationales: the primary comparisons use them."""

IN_PRIMARY: frozenset[ControlName] = SHUFFLED | POOL_CONTROLS
"""Controls that the primary comparisons use."""

MOST_TESTED = 5
"""Arms that may be tested where arms buy for one spend; others are described."""

FEWEST_SEEDS = 2


@dataclass(frozen=True, slots=True)
class Preset:
    """How much of the protocol an experiment carries out; what it leaves out needs no reason.

    controls:  of each treatment arm
    baselines: that the arms are compared with
    trials:    of each replicate's search; 1 means no search
    """

    controls: tuple[ControlName, ...]
    baselines: tuple[BaselineName, ...]
    trials: int


_CHEAP: tuple[BaselineName, ...] = ("majority", "bag_of_words")
"""Baselines that cost seconds: every preset has them."""

PRESETS: Mapping[ProtocolName, Preset] = {
    "quick": Preset(("shuffled",), _CHEAP, 1),
    "standard": Preset(("shuffled", "scrambled", "filler"), _CHEAP, 3),
    "full": Preset(CONTROLS, BASELINES, 3),
}


@dataclass(frozen=True, slots=True)
class Departure:
    """A departure of a recipe from the protocol.

    rule:   name of the rule in `departures`: controls, baselines or seeds
    what:   what is missing
    reason: the recipe's
    """

    rule: str
    what: str
    reason: str

    def __str__(self) -> str:
        return f"departure from the protocol ({self.rule}): {self.reason} ({self.what})"


def treatment_arms(arms: Sequence[ArmSection]) -> list[ArmSection]:
    """The treatment arms: those with a strategy that are not controls."""
    return [arm for arm in arms if arm.strategy is not None and arm.control is None]


def name_collisions(arms: Sequence[ArmSection]) -> list[str]:
    """Find arms that would share a folder, one line each; some file systems ignore case."""
    names: dict[str, str] = {}
    lines = []
    for arm in arms:
        first = names.get(arm.name.lower())
        if first is None:
            names[arm.name.lower()] = arm.name
        elif first == arm.name:
            lines.append(f"two arms are named {first!r}: rename one")
        else:
            lines.append(
                f"{first!r} and {arm.name!r} differ only in case and would share a folder on some "
                "systems: rename one"
            )
    return lines


def controls_of(arm: ArmSection, arms: Sequence[ArmSection]) -> list[ArmSection]:
    """The controls of a treatment arm, in the order of `arms`.

    A control has the arm's strategy, template, teacher, rows, spend and objective (a control that
    drops rationales, the objective `label`). Some contain nothing from the teacher: an arm without
    a label echo shares the first of its objective, and one without a self-training control the
    first of its spend.
    """
    own = [c for c in arms if c.control is not None and _same_requests(c, arm)]
    if not arm.learns_pool and not any(c.control == "label_echo" for c in own):
        own += [
            c
            for c in arms
            if c.control == "label_echo" and c.effective_objective == arm.effective_objective
        ][:1]
    if pool_controls(arm)[:1] == ("self_training",) and not any(
        c.control == "self_training" for c in own
    ):
        own += [c for c in arms if c.control == "self_training" and c.spend == arm.spend][:1]
    return own


def pool_controls(arm: ArmSection) -> tuple[ControlName, ...]:
    """The controls of an arm that learns rows which the teacher labelled; none for any other.

    Each has as many rows and the same steps, and lacks one thing: the teacher's knowledge, the
    rationale, or the agreement of two teachers.
    """
    if not arm.learns_pool or arm.control is not None or arm.described_only:
        return ()
    if arm.agrees_with is not None:
        return ("random_filter",)
    return (
        ("self_training",)
        if arm.effective_objective == "label"
        else (
            "rationale_dropped",
            "shuffled",
        )
    )


def with_added_arms(
    arms: Sequence[ArmSection],
    controls: Sequence[ControlName],
    baselines: Sequence[Baseline],
    task: Task | None,
    share_self_training: bool = True,
    equal_epochs: bool = False,
) -> list[ArmSection]:
    """Add the arms that `controls` and `baselines` ask for and that `arms` lacks.

    task: None where it is not known; then no arm omits the context
    share_self_training: whether all arms with unlabelled rows learn equally many of them, so that
          one self-training control is enough

    equal_epochs: whether the main pair, labels alone and the first arm with unlabelled rows, is
          trained at equal epochs as well

    An arm with unlabelled rows gets the controls of `pool_controls` instead, whatever `controls`
    says.

    ARM-shuffled and ARM-filler follow their arm. Then come label-echo (all arms of an objective
    share one; label-echo-OBJECTIVE where there are several objectives), the student without the
    context, and the classifiers: `classifier`, `classifier-2`, …. An arm of objective `label`
    learns no rationale and gets no control. Calling this on its own result adds nothing.

    Raises ValueError where an added arm's name is taken, or too long.
    """
    complete = list(arms)
    learners = _rationale_learners(arms)
    objectives = {arm.effective_objective for arm in learners}
    wanted = [(arm, control) for arm in learners for control in controls]
    wanted += [(arm, control) for arm in arms for control in pool_controls(arm)]
    for arm, control in wanted:
        present = controls_of(arm, complete)
        shared = control == "label_echo" or (control == "self_training" and share_self_training)
        if control == "self_training" and not share_self_training:
            present = [c for c in present if _same_requests(c, arm)]
        if any(c.control == control for c in present):
            continue
        name = f"{arm.name}-{_hyphens(control)}"
        if shared:
            name = _echo_name(arm, objectives) if control == "label_echo" else "self-training"
        _check_name(name, complete, f"the control {control} of {arm.name!r}")
        # After the arm and its own controls. What belongs to several arms comes last.
        own = [arm, *(c for c in present if c.control not in ("label_echo", "self_training"))]
        place = len(complete) if shared else 1 + max(complete.index(one) for one in own)
        changes: dict[str, Any] = {"name": name, "control": control}
        if control == "rationale_dropped":
            changes["objective"] = "label"
        complete.insert(place, arm.model_copy(update=changes))
    if equal_epochs:
        _add_main_pair(complete)
    if "omitted_context" in baselines and task is not None and not _has_omitted(complete, task):
        assert task.context is not None
        name = "hypothesis-only" if task == NLI else f"without-{_hyphens(task.context)}"
        _check_name(name, complete, "the baseline omitted_context")
        complete.append(ArmSection(name=name, omits=(task.context,)))
    classifiers = [one for one in baselines if isinstance(one, ClassifierSection)]
    for place, section in enumerate(classifiers, 1):
        if not any(arm.classifier == section for arm in complete):
            name = "classifier" if place == 1 else f"classifier-{place}"
            _check_name(name, complete, f"the baseline {section.classifier}")
            complete.append(ArmSection(name=name, classifier=section))
    return complete


def adds_baselines(values: Mapping[str, Any]) -> bool:
    """Whether a recipe names classifiers alone as its baselines, and gives no reason why it has no
    others: they are then added to the protocol's."""
    given, departures = values["baselines"], values.get("departures")
    explained = isinstance(departures, Mapping) and departures.get("baselines") is not None
    if not isinstance(given, list | tuple) or not given or explained:
        return False
    return all(isinstance(one, Mapping | ClassifierSection) for one in given)


def _add_main_pair(arms: list[ArmSection]) -> None:
    """Add labels alone and the first arm with unlabelled rows, at equal epochs, at the end."""
    treated = [a for a in treatment_arms(arms) if a.learns_pool and not a.described_only]
    plain = [arm for arm in arms if arm.is_plain]
    if not treated or any(arm.equal == "epochs" for arm in arms):
        return
    for arm in (*plain[:1], treated[0]):
        name = f"{arm.name}-equal-epochs"
        _check_name(name, arms, f"{arm.name!r} at equal epochs")
        arms.append(arm.model_copy(update={"name": name, "equal": "epochs"}))


def protocol_breaches(
    arms: Sequence[ArmSection],
    baselines: Sequence[Baseline],
    seeds: Sequence[int],
    task: Task | None,
    protocol: ProtocolName,
) -> dict[str, str]:
    """What is missing of the preset, by rule (controls, baselines, seeds).

    arms: with those that `with_added_arms` adds
    """
    preset = PRESETS[protocol]
    missing = _missing_baselines(preset.baselines, arms, baselines, task)
    found = {
        "controls": "; ".join(
            f"no {control} control{whose}"
            for control, whose in _missing_controls(preset.controls, arms)
        ),
        "baselines": f"no {', no '.join(missing)}" if missing else "",
        "seeds": ""
        if len(seeds) >= FEWEST_SEEDS
        else f"{len(seeds)} seed, which shows nothing of how seeds vary",
    }
    return {rule: what for rule, what in found.items() if what}


def left_out(
    arms: Sequence[ArmSection],
    baselines: Sequence[Baseline],
    task: Task | None,
    protocol: ProtocolName,
) -> tuple[str, ...]:
    """What the preset leaves out of the full protocol and the recipe does not add, in words."""
    preset, full = PRESETS[protocol], PRESETS["full"]
    controls = tuple(control for control in full.controls if control not in preset.controls)
    others = tuple(name for name in full.baselines if name not in preset.baselines)
    return (
        *(f"the control {c}{whose}" for c, whose in _missing_controls(controls, arms)),
        *(f"the baseline {b}" for b in _missing_baselines(others, arms, baselines, task)),
    )


def departure_problems(
    breaches: Mapping[str, str], reasons: Mapping[str, str | None], protocol: ProtocolName
) -> list[str]:
    """Find breaches without a reason and reasons without a breach, one line each.

    breaches: as from `protocol_breaches`
    reasons:  the recipe's `departures`, by rule
    """
    preset = PRESETS[protocol]
    remedies = {
        "controls": f"protocol {protocol} has them for every treatment arm (controls: "
        f"[{', '.join(preset.controls)}], its default)",
        "baselines": f"protocol {protocol} has them (baselines: [{', '.join(preset.baselines)}], "
        "its default)",
        "seeds": "name two or more (seeds: [0, 1, 2, 3, 4] is the default)",
    }
    lines = [
        f'{rule}: {what}: {remedies[rule]}, or give a reason: departures: {{{rule}: "your reason"}}'
        for rule, what in breaches.items()
        if reasons.get(rule) is None
    ]
    lines += [
        f"departures.{rule}: gives a reason, but the recipe follows this rule of protocol "
        f"{protocol}: remove it"
        for rule, reason in reasons.items()
        if reason is not None and rule not in breaches
    ]
    return lines


def _same_requests(control: ArmSection, arm: ArmSection) -> bool:
    dropped = control.control == "rationale_dropped"
    if not dropped and control.effective_objective != arm.effective_objective:
        return False
    if dropped and arm.effective_objective == "label":
        return False
    if control.equal != arm.equal or control.spend != arm.spend:
        return False
    return control.annotation_key == arm.annotation_key


def _rationale_learners(arms: Sequence[ArmSection]) -> list[ArmSection]:
    """Treatment arms that learn rationales of gold rows, and are tested."""
    return [
        arm
        for arm in treatment_arms(arms)
        if arm.effective_objective != "label" and not arm.learns_pool and not arm.described_only
    ]


def _missing_controls(
    wanted: Sequence[ControlName], arms: Sequence[ArmSection]
) -> list[tuple[ControlName, str]]:
    """Each control that an arm lacks, and ` for ARM, …` where not all arms do."""
    learners = _rationale_learners(arms)
    parts = []
    for control in wanted:
        counts: frozenset[ControlName] = SHUFFLED if control in SHUFFLED else frozenset({control})
        without = [
            arm.name
            for arm in learners
            if not any(c.control in counts for c in controls_of(arm, arms))
        ]
        if without:
            whose = "" if len(without) == len(learners) else f" for {', '.join(without)}"
            parts.append((control, whose))
    return parts


def _missing_baselines(
    wanted: Sequence[BaselineName],
    arms: Sequence[ArmSection],
    baselines: Sequence[Baseline],
    task: Task | None,
) -> list[BaselineName]:
    asks = any(arm.asks_teacher for arm in treatment_arms(arms))
    applies: Mapping[BaselineName, Callable[[], bool]] = {
        "majority": lambda: True,
        "bag_of_words": lambda: True,
        "omitted_context": lambda: task is not None and not _has_omitted(arms, task),
        "teacher_labels": lambda: asks,
        "teacher": lambda: asks,
    }
    return [name for name in wanted if name not in baselines and applies[name]()]


def _has_omitted(arms: Sequence[ArmSection], task: Task) -> bool:
    """Whether an arm omits the context, or the task has no context that could be omitted."""
    if task.context is None or len(task.fields) == 1:
        return True
    return any(arm.omits == (task.context,) for arm in arms)


def _echo_name(arm: ArmSection, objectives: set[ObjectiveName]) -> str:
    return f"label-echo-{arm.effective_objective}" if len(objectives) > 1 else "label-echo"


def _hyphens(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)


def _check_name(name: str, arms: Sequence[ArmSection], whose: str) -> None:
    if any(arm.name.lower() == name.lower() for arm in arms):
        raise ValueError(f"{whose} would be named {name!r}, as another arm is: rename that arm")
    if not NAME.fullmatch(name):
        raise ValueError(f"{whose} would be named {name!r}, which is too long: shorten the arm's")
