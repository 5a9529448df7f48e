"""The replicates of a run in words and tables: what they chose, what diverged, which is best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.results import (
    ArmResult,
    Configuration,
    InterimAnalyses,
    OtherAnswer,
    Results,
    Trial,
)
from tutelage.core.wording import (
    joined,
    p_value,
    percent,
    percent_interval,
    points,
    several,
)

MAJORITY_ANSWERS = "the most frequent training label answered in place of a student"


def config_in_words(config: Configuration) -> str:
    """`learning rate 0.0012, label weight 0.25`."""
    return f"learning rate {config.learning_rate:g}, label weight {config.label_weight:g}"


def choices_in_words(arm: ArmResult) -> str:
    """`learning rate 0.0012, label weight 0.25 (3 seeds); learning rate …`, most frequent first;
    the number of seeds is left out where all chose alike."""
    chosen = [
        "none: every trial diverged" if config is None else config_in_words(config)
        for config in arm.config_by_seed
    ]
    counts = Counter(chosen).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "; ".join(f"{words} ({several(number, 'seed')})" for words, number in counts)


@dataclass(frozen=True, slots=True)
class ReplicateRow:
    """One replicate of an arm, for the tables.

    config:       what it chose, in words
    trials:       its trials, each (configuration in words, what it reached on dev or what happened,
                  whether it was chosen); empty without a search
    dev, test:    the metric of its student, fractions
    steps, best_step: of its training
    remark:       what went wrong; empty where nothing did
    """

    arm: str
    seed: int
    config: str
    trials: tuple[tuple[str, str, bool], ...]
    dev: float
    test: float
    steps: int
    best_step: int
    remark: str


def replicate_rows(results: Results) -> Mapping[str, tuple[ReplicateRow, ...]]:
    """Arm -> its replicates, in the order of their seeds."""
    return {arm.name: tuple(_rows(arm)) for arm in results.arms}


def _rows(arm: ArmResult) -> Iterator[ReplicateRow]:
    for place, (seed, config) in enumerate(zip(arm.seeds, arm.config_by_seed, strict=True)):
        yield ReplicateRow(
            arm=arm.name,
            seed=seed,
            config="none" if config is None else config_in_words(config),
            trials=tuple(
                (config_in_words(trial.config), _reached(trial), trial.config == config)
                for trial in arm.trials
                if trial.seed == seed
            ),
            dev=arm.dev.accuracy_by_seed[place],
            test=arm.test.accuracy_by_seed[place],
            steps=arm.training.steps_by_seed[place],
            best_step=arm.training.best_step_by_seed[place],
            remark=_remark(arm, place),
        )


def _reached(trial: Trial) -> str:
    if trial.diverged_at is not None:
        return f"diverged at step {trial.diverged_at}"
    return percent(trial.dev_accuracy)


def _remark(arm: ArmResult, place: int) -> str:
    step = arm.training.diverged_at_by_seed[place]
    if arm.config_by_seed[place] is None:
        return f"every trial diverged; {MAJORITY_ANSWERS}"
    if step is None:
        return ""
    if not arm.training.best_step_by_seed[place]:
        return f"diverged at step {step}; {MAJORITY_ANSWERS}"
    return f"diverged at step {step}; its best checkpoint was tested"


def seeds_shares(results: Results) -> str:
    """How much of each arm's uncertainty comes from its seeds; empty where nothing is known."""
    shares = [
        f"{arm.name} {percent(arm.seeds_share, 0)}"
        for arm in results.arms
        if arm.seeds_share is not None
    ]
    if not shares:
        return ""
    return (
        f"Of the variance of an arm's test {results.metric_name}, what comes from the seeds (the "
        f"rest comes from the test rows): {', '.join(shares)}."
    )


def divergence_sentences(results: Results) -> list[str]:
    """What diverged, with arm, configuration and seed; empty where nothing did."""
    trials = [words for arm in results.arms if (words := _diverged_trials(arm))]
    sentences = []
    if trials:
        sentences.append(f"Trials diverged and were not chosen: {'; '.join(trials)}.")
    for arm in results.arms:
        for row in _rows(arm):
            if row.remark:
                how = f" ({row.config})" if row.config != "none" else ""
                sentences.append(
                    f"The training of {arm.name} with seed {row.seed}{how}: {row.remark}. It "
                    "counts like every other."
                )
    return sentences


def _diverged_trials(arm: ArmResult) -> str:
    """`of labels 3 of 15 (learning rate 0.1, label weight 1 with seeds 0, 2 and 4)`."""
    by_config: dict[str, list[str]] = {}
    for trial in arm.trials:
        if trial.diverged_at is not None:
            by_config.setdefault(config_in_words(trial.config), []).append(str(trial.seed))
    if not by_config:
        return ""
    where = "; ".join(
        f"{config} with seed{'s' if len(seeds) > 1 else ''} {joined(seeds)}"
        for config, seeds in by_config.items()
    )
    diverged = sum(map(len, by_config.values()))
    return f"of {arm.name}, {diverged} of {len(arm.trials)} ({where})"


def model_sentence(results: Results) -> str:
    """Which model to use and what to expect of it; empty where there is none."""
    model = results.recommended
    if model is None:
        return ""
    arm = results.arm(model.arm)
    treatments = any(each.is_treatment for each in results.arms)
    why = ""
    if not model.better and treatments:
        why = (
            " It learned labels alone, because no treatment arm was significantly better than both "
            f"labels alone and its {'controls' if results.worth else 'shuffled control'}."
        )
    if len(arm.seeds) == 1:
        which, accuracy = "", "of this model"
    else:
        which = f", of the {len(arm.seeds)} students of {model.arm} the best on dev"
        accuracy = f"the mean of all {len(arm.seeds)}"
    return (
        f"The model to use is {model.folder}{which}. Expect a test {results.metric_name} of "
        f"{percent(model.accuracy)} ({percent_interval(model.ci95)}), {accuracy}.{why}"
    )


def other_answers(results: Results) -> list[str]:
    """What other openings of the test set mean for this answer, with their figures."""
    by_change: dict[str, list[OtherAnswer]] = {}
    for other in results.other_answers:
        by_change.setdefault(other.change, []).append(other)
    sentences = [] if results.interim is None else [_interim(results.interim)]
    if added := by_change.get("seeds added"):
        sentences.append(
            f"Seeds were added after {_known(added)}, outside of a plan. Adding seeds until a "
            "difference is significant finds one that does not exist in 11 to 13% of experiments "
            "instead of 5%."
        )
    if left_out := by_change.get("seeds left out"):
        sentences.append(
            f"These results leave out seeds of {_known(left_out)}: leaving out seeds whose results "
            "are known can bring about any answer."
        )
    if choices := by_change.get("choice"):
        sentences.append(
            f"The test set was opened {len(choices) + 1} times, each time for another choice of "
            f"configurations, settings or rows. These results are from the last time; the more "
            f"often it is opened, the less they mean. Known before: {_known(choices)}."
        )
    return sentences


def _interim(interim: InterimAnalyses) -> str:
    """Which analysis of the plan these results are, and what follows from it."""
    numbers = joined([str(seeds) for seeds in interim.plan])
    if interim.decided:
        ending = "Every primary difference is decided, so no more seeds are added."
    elif interim.seeds == interim.plan[-1]:
        ending = "This was the last analysis; some primary differences are not decided."
    else:
        ending = "Not every primary difference is decided yet."
    return (
        f"Interim analyses were planned beforehand, after {numbers} seeds; this is the one after "
        f"{interim.seeds}. The level of a single test is {percent(interim.level)} in it, so that "
        "all analyses together give 5% false alarms: adjusted p-values allow for that, 95% "
        f"intervals do not. {ending}"
    )


def _known(others: Sequence[OtherAnswer]) -> str:
    """`an answer with 3 seeds (reasons − labels +1.2 points, p = 0.081)`."""
    answers = []
    for other in others:
        seeds = f" with {several(len(other.seeds), 'seed')}" if other.seeds else ""
        answers.append(f"an answer{seeds}{_figures(other)}")
    return joined(answers)


def _figures(other: OtherAnswer) -> str:
    figures = [
        f"{d.arm} − {d.baseline} {points(d.difference)} points, p {_equals(p_value(d.p_adjusted))}"
        for d in other.differences
    ]
    return f" ({'; '.join(figures)})" if figures else ""


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"
