"""The answer in plain sentences: the findings, what precedes them, and what limits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.results import ArmResult, ComparisonResult, Results
from tutelage.core.wording import joined, percent, percent_interval, points, several
from tutelage.report.control_arms import bag_of_words_caveat, classifier_caveats, harmful_controls
from tutelage.report.doubts import doubts
from tutelage.report.findings import Conclusion, Finding, findings, gains
from tutelage.report.replicates import divergence_sentences, model_sentence, other_answers
from tutelage.report.sanity_checks import at_chance_level, partial_input_caveats
from tutelage.report.units import units_in_words
from tutelage.report.worth_section import worth_section


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer, each entry a few sentences.

    opening:  what stands before the findings: that nothing was learned, or an overview of several
              treatment arms; may be empty
    findings: one for each treatment arm, in the order of their conclusions, then by size
    model:    which model to use; empty where there is none
    caveats:  what else a reader should know
    """

    opening: tuple[str, ...]
    findings: tuple[Finding, ...]
    model: str
    caveats: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """Everything, in this order."""
        model = [self.model] if self.model else []
        return [*self.opening, *(finding.text for finding in self.findings), *model, *self.caveats]


def answer_of(results: Results) -> Answer:
    """The answer that the results give."""
    found = findings(results)
    opening = [sentence] if (sentence := at_chance_level(results)) else []
    if len(found) > 1:
        opening.append(
            _overview(
                found,
                "training on explanations" if results.worth is None else "buying",
                results.metric_name,
            )
        )
    return Answer(tuple(opening), tuple(found), model_sentence(results), tuple(_caveats(results)))


def answer_sentences(results: Results) -> list[str]:
    """The answer, an entry of one or a few sentences each; what the money is best spent on first,
    where arms buy."""
    bought = worth_section(results)
    first = [] if bought is None else [*bought.answer, *bought.gold]
    return [*first, *answer_of(results).sentences]


def _overview(found: Sequence[Finding], what: str, metric: str) -> str:
    """One sentence about several treatment arms.

    what:   they are ways of: `training on explanations`
    metric: in words
    """
    names: dict[str, list[str]] = {}
    for finding in found:
        gain = finding.gain
        words = _OVERVIEW[finding.conclusion].format(metric=metric)
        size = "" if finding.conclusion == "undetected" else f" ({points(gain.difference)} points)"
        names.setdefault(words, []).append(f"{gain.arm}{size}")
    (words, arms), *others = names.items()
    number = str(len(arms))
    if not others and words == _OVERVIEW["undetected"]:
        number, words = "None", "had a detected effect"
    first = (
        f"{number} of {len(found)} ways of {what} {words} compared with labels "
        f"alone: {joined(arms)}"
    )
    return "; ".join([first, *(f"{len(o)} {w}: {joined(o)}" for w, o in others)]) + "."


_OVERVIEW: Mapping[Conclusion, str] = {
    "content": "raised test {metric}",
    "gain": "raised test {metric}",
    "equivalent": "changed test {metric} by less than the margin",
    "undetected": "had no detected effect",
    "worse": "lowered test {metric}",
}


def _caveats(results: Results) -> list[str]:
    sentences = []
    compared = gains(results)
    if not results.finished:
        sentences.append("This run has not finished: these are the results so far.")
    if not compared:
        sentences += [_alone(arm, results.metric_name) for arm in results.arms]
        sentences.append("No treatment arm was compared with labels alone in this run.")
    sentences += classifier_caveats(results)
    sentences += bag_of_words_caveat(results)
    sentences += divergence_sentences(results)
    sentences += doubts(results)
    sentences += partial_input_caveats(results)
    sentences += harmful_controls(results)
    if left_out := results.protocol.left_out:
        sentences.append(
            f"The protocol {results.protocol.name} leaves out {joined(left_out)}: `protocol: full` "
            "has everything."
        )
    sentences += [
        f"Departure from the protocol ({d.rule}): {d.reason.rstrip('.')} ({d.what})."
        for d in results.departures
    ]
    if any(c.seeds == 1 for c in compared):
        sentences.append(
            "With one seed, the results are about these trained models only: training again may "
            "give other results."
        )
    if any(c.few_groups for c in compared):
        sentences.append(_few_groups(compared[0], results.task.context))
    sentences += other_answers(results)
    if others := results.test_rows_also_used_by:
        runs, their = ("run", "its") if len(others) == 1 else ("runs", "their")
        sentences.append(
            f"The {runs} {joined(others)} used the same test rows: choices made here after seeing "
            f"{their} results were not blind."
        )
    return sentences


def families(comparisons: Sequence[ComparisonResult]) -> str:
    """How many comparisons each of Holm's corrections is over, in words."""
    first = sum(c.primary for c in comparisons)
    others = len(comparisons) - first
    if not others:
        return several(first, "comparison")
    return (
        f"the {first} with labels alone and shuffled explanations, and separately over the "
        f"{others} with other control arms"
    )


def _few_groups(comparison: ComparisonResult, context: str | None) -> str:
    units = units_in_words(comparison, context) or several(comparison.n, "row")
    weigh = ""
    if comparison.effective_groups < comparison.groups - 0.5:
        weigh = f", which weigh as much as {comparison.effective_groups:.0f} of equal size"
    return (
        f"The test rows are only {units}{weigh}: with so few, a difference that does not exist is "
        "reported as significant in up to 8% of experiments instead of 5%."
    )


def _alone(arm: ArmResult, metric: str) -> str:
    test = arm.test
    return (
        f"{arm.name} reached a test {metric} of {percent(test.accuracy)} "
        f"({percent_interval(test.ci95)}; {several(test.n, 'row')}, "
        f"{several(len(arm.seeds), 'seed')})."
    )
