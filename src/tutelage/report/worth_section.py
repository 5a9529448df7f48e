"""What a teacher's money bought, in sentences and a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.core.errors import UsageError
from tutelage.core.results import ComparisonResult, Results, load_results
from tutelage.core.results.worth import ArmWorth, Candidate, CostOfUse, GoldWorth, Worth
from tutelage.core.wording import (
    count,
    joined,
    margin_in_points,
    p_value,
    percent,
    percent_interval,
    points,
    several,
)
from tutelage.report.worth_scope import is_described, scope_sentences


@dataclass(frozen=True, slots=True)
class WorthRow:
    """One arm, as a table shows it.

    worth:  its worth in gold rows in words: `900 (620 to 1,400)`; empty where none was computed
    best:   whether it may be the best: `yes`, `no`; empty where it is not one of the candidates
    described: whether it is in no test at all: a spend of its own, or a point of the curve
    preview: accuracy on dev of a bag of words on its rows, a fraction; None where there is none
    """

    arm: ArmWorth
    cost: str
    worth: str
    best: str
    preview: float | None
    described: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `WorthSection.columns`."""
        arm = self.arm
        return (
            arm.arm,
            arm.intervention,
            f"{arm.gold_rows:,}",
            count(arm.pool_rows),
            self.cost,
            f"{percent(arm.accuracy)} ({percent_interval(arm.ci95)})",
            self.worth,
            self.best,
        )


@dataclass(frozen=True, slots=True)
class WorthSection:
    """What the money bought.

    models:   arm -> the teacher's model, where it has one
    answer:   what it is best spent on, or that this cannot be told and what it would take
    gold:     what each arm is worth in gold rows, a sentence or two each
    scope:    what the claim is about, and what it is not
    costs:    of the experiment, apart from the cost of use
    left_out: what was paid for and is not learnt, an entry for each arm
    rows:     in the recipe's order
    metric:   that the arms are compared in, in words
    """

    worth: Worth
    models: Mapping[str, str | None]
    answer: tuple[str, ...]
    gold: tuple[str, ...]
    scope: tuple[str, ...]
    costs: tuple[str, ...]
    left_out: tuple[str, ...]
    rows: tuple[WorthRow, ...]
    metric: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table that a terminal shows; the page has more."""
        return (
            "arm", "adds", "gold rows", "pool rows", "cost of use", self.metric,
            "worth in gold rows", "may be best",
        )  # fmt: skip

    @property
    def sentences(self) -> list[str]:
        """All of them, the answer first."""
        return [*self.answer, *self.gold, *self.notes]

    @property
    def notes(self) -> list[str]:
        """What else a reader should know."""
        return [*self.left_out, *self.costs, *self.scope]

    @property
    def has_preview(self) -> bool:
        """Whether a bag of words was trained on the arms' rows."""
        return any(row.preview is not None for row in self.rows)


def worth_section(results: Results) -> WorthSection | None:
    """The section of a run; None where no arm buys."""
    worth = results.worth
    if worth is None:
        return None
    models = {arm: annotation.model for arm, annotation in results.teacher.by_arm.items()}
    gold = {each.arm: each for each in worth.gold}
    candidates = {each.arm: each for each in worth.candidates}
    preview = {each.arm: each.dev_accuracy for each in worth.preview}
    rows = tuple(
        WorthRow(
            arm,
            cost_in_words(arm.cost),
            worth_in_words(gold[arm.arm]) if arm.arm in gold else "",
            _may_be(candidates.get(arm.arm)),
            preview.get(arm.arm),
            is_described(arm, worth),
        )
        for arm in worth.arms
    )
    return WorthSection(
        worth,
        models,
        tuple(_answer(worth, results.comparisons)),
        tuple(_gold_sentences(worth, models, results.metric_name)),
        tuple(scope_sentences(worth, results.metric_name)),
        tuple(_costs(worth)),
        tuple(_left_out(worth)),
        rows,
        results.metric_name,
    )


def worth_of_run(folder: Path) -> WorthSection:
    """The section of a run's results.json.

    Raises UsageError for a folder without results, and for a run in which no arm buys;
    RunFolderError for results that cannot be read.
    """
    path = folder / "results.json"
    if not path.exists():
        raise UsageError(f"{folder}: holds no results.json: expected the folder of a finished run")
    found = worth_section(load_results(path))
    if found is None:
        raise UsageError(
            f"{folder}: got a run in which all seeds learn the same gold rows, expected one that "
            "compares what money buys (`spend`, unlabelled rows, or several numbers of gold rows): "
            f"the answer of this one is in `tutelage report {folder}`"
        )
    return found


def _may_be(candidate: Candidate | None) -> str:
    return "" if candidate is None else "yes" if candidate.may_be_best else "no"


def cost_in_words(cost: CostOfUse | None) -> str:
    """`$0.42`; requests where no price is known; `–` where nothing was bought."""
    if cost is None:
        return "–"
    return price(cost.usd) if cost.usd is not None else f"{count(cost.requests)} requests"


def price(usd: float) -> str:
    """`$1,200.00`, `$0.42`, and two significant digits below ten cents: `$0.00047`."""
    if usd == 0 or usd >= 0.0995:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def rounded(rows: float) -> str:
    """A number of rows to the nearest ten from a hundred on, with a minus sign below zero."""
    number = round(rows, -1) if abs(rows) >= 100 else round(rows)
    return f"{'−' if number < 0 else ''}{abs(number):,.0f}"


def worth_in_words(found: GoldWorth) -> str:
    """`900 (620 to 1,400)`, `at least 620`, `at most 1,400` or `cannot be said`."""
    if found.low is None and found.high is None:
        return "cannot be said"
    if found.high is None:
        return f"at least {rounded(found.low or 0.0)}"
    if found.low is None:
        return f"at most {rounded(found.high)}"
    ends = f"{rounded(found.low)} to {rounded(found.high)}"
    return ends if found.worth is None else f"{rounded(found.worth)} ({ends})"


def _spent(worth: Worth) -> str:
    """`$1.00`, `The money (2,000 rows)`; `The money` where nothing limits what arms buy."""
    if worth.spend is None or worth.unit is None:
        return "The money"
    if worth.unit == "dollars":
        return price(worth.spend)
    return f"The money ({worth.spend:,.0f} {worth.unit})"


def _answer(worth: Worth, comparisons: Sequence[ComparisonResult]) -> Iterator[str]:
    left = worth.may_be_best
    accuracy = {each.arm: each.accuracy for each in worth.candidates}
    if len(accuracy) < 2:
        return
    out = [each for each in worth.candidates if not each.may_be_best]
    if len(left) == 1:
        [best] = left
        unspent = worth.arm(best).intervention == "labels alone"
        yield (
            f"{_spent(worth)} is best {'not spent:' if unspent else 'spent on'} {best}"
            f"{' reaches' if unspent else ', which reaches'} {percent(accuracy[best])}. It is "
            f"significantly better than {_the_others(len(out))}."
        )
        yield from _nearly_as_good(worth, best)
        return
    yield (
        f"What {_spent(worth).replace('The', 'the')} is best spent on cannot be told: each of "
        f"{_with_accuracy(left, accuracy)} may be the best. One of them is, with a probability of "
        "95%."
    )
    if out:
        yield f"Not the best: {'; '.join(_excluded(each) for each in out)}."
    yield from _nearly_as_good(worth)
    yield _what_it_takes(left, accuracy, comparisons)


def _the_others(number: int) -> str:
    return "the other candidate" if number == 1 else f"each of the other {number} candidates"


def _with_accuracy(names: Sequence[str], accuracy: Mapping[str, float]) -> str:
    return joined([f"{name} ({percent(accuracy[name])})" for name in names])


def _excluded(each: Candidate) -> str:
    behind = points(each.behind, sign=False)
    return f"{each.arm}, {behind} points below {each.rival} (p {_equals(each.p_value)})"


def _nearly_as_good(worth: Worth, best: str | None = None) -> Iterator[str]:
    """Which cheaper arm is nearly as good as any; cheaper than `best`, where one arm is."""
    costs = {each.arm: each.cost for each in worth.cheaper}  # without those of the dearest
    cheaper = [each for each in worth.cheaper if each.cost < costs.get(best or "", math.inf)]
    if not cheaper:
        return
    margin = margin_in_points(worth.margin)
    near = [each for each in cheaper if each.non_inferior]
    if near:
        first = near[0]
        more = f", as {'are' if len(near) > 2 else 'is'} {joined([e.arm for e in near[1:]])}"
        yield (
            f"The cheapest arm that is shown to be less than {margin} below the best, whichever "
            f"that is, is {first.arm} (p {_equals(first.p_adjusted)})"
            f"{'' if len(near) == 1 else more}."
        )
    else:
        yield f"No cheaper arm is shown to be less than {margin} below the best."


def _equals(p: float) -> str:
    """`= 0.012` or `< 0.001`."""
    text = p_value(p)
    return text if "<" in text else f"= {text}"


def _what_it_takes(
    left: Sequence[str], accuracy: Mapping[str, float], comparisons: Sequence[ComparisonResult]
) -> str:
    gap = accuracy[left[0]] - accuracy[left[1]]
    sizes = [
        each.minimum_detectable_difference
        for each in comparisons
        if each.primary and each.minimum_detectable_difference is not None
    ]
    known = (
        f", and differences of about {points(max(sizes), sign=False)} points are what this "
        "experiment detects four times in five"
        if sizes
        else ""
    )
    return (
        f"The first two are {points(gap, sign=False)} points apart{known}. `tutelage plan RECIPE "
        f"--detect {max(100 * gap, 0.1):.1f}` says how many seeds or test rows it would take."
    )


def _gold_sentences(worth: Worth, models: Mapping[str, str | None], metric: str) -> Iterator[str]:
    if worth.no_gold is not None:
        yield f"What arms are worth in gold rows was not computed: {worth.no_gold}."
    for found in worth.gold:
        arm = worth.arm(found.arm)
        yield (
            f"{found.arm}: {bought(arm, models.get(arm.arm))} {_is_worth(found, metric)}"
            f"{_break_even(found, worth.gold_price, metric)}"
        )


def bought(arm: ArmWorth, model: str | None) -> str:
    """What an arm adds to its gold rows: `1,500 labels by MODEL ($0.42)`."""
    by = f" by {model}" if model else ""
    rows, rationales = count(arm.pool_rows), count(arm.rationales)
    what = {
        "teacher labels": f"{rows} labels{by}",
        "teacher labels and rationales": f"{rows} labels with rationales{by}",
        "agreed labels": f"{rows} labels on which two teachers agree",
        "self-training": f"{rows} labels by the student itself",
        "rationales": f"{rationales} rationales{by}",
        "gold rows": f"{several(arm.gold_rows, 'gold row')}",
    }.get(arm.intervention, f"{rows} rows of the pool and {rationales} rationales")
    return what if arm.cost is None else f"{what} ({cost_in_words(arm.cost)})"


def _is_worth(found: GoldWorth, metric: str) -> str:
    words = worth_in_words(found)
    if found.low is None and found.high is None:
        return (
            f"are worth a number of gold rows that cannot be said: near their {metric} the curve "
            "of gold rows rises too little for these test rows and seeds."
        )
    if found.beyond is not None:
        return f"are worth {words} gold rows: they are {found.beyond} the whole curve."
    if found.worth is None:
        return f"are worth {words} gold rows."
    if found.low is None or found.high is None:
        return f"are worth about {rounded(found.worth)} gold rows, {words}."
    return f"are worth {rounded(found.worth)} gold rows{words.removeprefix(rounded(found.worth))}."


def _break_even(found: GoldWorth, gold_price: float | None, metric: str) -> str:
    """From which price of a gold label on the arm is the cheaper way, and what this one's is."""
    low, high = found.break_even_low, found.break_even_high
    if not found.break_even and not low and not high:  # unknown, or the arm costs nothing
        return ""
    if low and high:
        interval = f"{price(low)} to {price(high)}"
    else:
        interval = f"at least {price(low)}" if low else f"at most {price(high)}" if high else ""
    text = f" People cost as much, for the same {metric}, at a price of "
    if found.break_even is None:
        text += f"{interval} a label" if interval else "a label that is unknown"
    else:
        text += f"{price(found.break_even)} a label{f' ({interval})' if interval else ''}"
    if gold_price is None:
        return text + "."
    if high is not None and gold_price > high:
        cheaper = "this is the cheaper way"
    elif low is not None and gold_price < low:
        cheaper = "people are the cheaper way"
    else:
        cheaper = "which is the cheaper way cannot be told"
    return f"{text}: at {price(gold_price)}, {cheaper}."


def _costs(worth: Worth) -> Iterator[str]:
    if worth.paid_requests:
        yield (
            f"The cost of use is what an arm pays alone for one draw. The experiment itself took "
            f"{several(worth.paid_requests, 'request')} for all arms and seeds, each answer once: "
            f"{'an unknown price' if worth.paid_usd is None else price(worth.paid_usd)}."
        )
    if worth.agreement:
        costs = [found.cost_usd for found in worth.agreement]
        cost = None if None in costs else sum(cost or 0.0 for cost in costs)
        yield (
            "The check against known labels took "
            f"{'an unknown price' if cost is None else price(cost)} more."
        )
    if worth.gold_usd is not None:
        yield (
            f"The labels of dev and test rows, which every arm needs, cost {price(worth.gold_usd)} "
            f"more at {price(worth.gold_price or 0.0)} each."
        )


def _left_out(worth: Worth) -> Iterator[str]:
    for arm in worth.arms:
        if reasons := {why: rows for why, rows in arm.left_out.items() if rows}:
            listed = ", ".join(f"{why} {rows:,.4g}" for why, rows in reasons.items())
            yield f"{arm.arm} paid for rows that it does not learn (mean over seeds): {listed}."
