"""What the money bought: what the sentences claim, the picture, the page, and `tutelage worth`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_sample import as_document, from_document, sample_results
from typer.testing import CliRunner
from worth_sample import ARMS, HOSTILE, arm, bought, candidate, gold, sample_worth

from tutelage.cli.main import app
from tutelage.core.results import Results
from tutelage.core.results.worth import CheaperCandidate, GoldWorth
from tutelage.report.figures.worth_plot import cost_axis, cost_lines, gold_ticks, worth_plot
from tutelage.report.page import render_markdown, render_report
from tutelage.report.worth_section import (
    WorthSection,
    price,
    rounded,
    worth_in_words,
    worth_section,
)


@pytest.fixture(scope="module")
def results() -> Results:
    return replace(
        sample_results(60, 2, {"labels": 0.0, "informed-reasoning": 0.1}), worth=sample_worth()
    )


def section(results: Results, **more: Any) -> WorthSection:
    found = worth_section(replace(results, worth=sample_worth(**more)))
    assert found is not None
    return found


def test_without_arms_that_buy_there_is_no_section(results: Results) -> None:
    without = replace(results, worth=None)
    assert worth_section(without) is None
    assert "What the money bought" not in render_report(without, title="t")
    assert "What the money bought" not in render_markdown(without, title="t")


def test_best_spent_is_said_only_where_one_arm_is_left(results: Results) -> None:
    [first, second] = section(results).answer
    assert first.startswith(f"$1.00 is best spent on {HOSTILE}, which reaches 78.0%.")
    assert second == "No cheaper arm is shown to be less than 3.0 points below the best."
    several = (
        candidate("labels", False),
        candidate(HOSTILE, True, "half"),
        candidate("half", True),
    )
    cheap = CheaperCandidate("half", 0.21, True, 0.012, HOSTILE, 0.03, 0.029)
    answer = section(results, candidates=several, cheaper=(cheap,)).answer
    assert "best spent on" in answer[0] and "cannot be told" in answer[0]
    assert f"each of {HOSTILE} (78.0%) and half (75.0%) may be the best" in answer[0]
    assert answer[1] == f"Not the best: labels, 8.0 points below {HOSTILE} (p < 0.001)."
    assert answer[2].endswith("whichever that is, is half (p = 0.012).")
    assert "3.0 points apart" in answer[3] and "--detect 3.0" in answer[3]
    assert not any("is best spent on" in line and "cannot" not in line for line in answer)


def test_a_spend_that_is_best_kept_is_not_spent(results: Results) -> None:
    kept = (candidate("labels", True), candidate(HOSTILE, False, "labels"))
    answer = section(results, candidates=kept, cheaper=()).answer
    assert answer == (
        "$1.00 is best not spent: labels reaches 70.0%. It is significantly better than the other "
        "candidate.",
    )
    in_rows = section(results, candidates=kept, cheaper=(), unit="rows", spend=2000.0).answer
    assert in_rows[0].startswith("The money (2,000 rows) is best not spent")
    alone = section(results, candidates=kept[:1], cheaper=())
    assert alone.answer == ()


@pytest.mark.parametrize(
    ("found", "words", "said"),
    [
        (gold(618, 1404), "900 (620 to 1,400)", "are worth 900 gold rows (620 to 1,400)."),
        (gold(618, None), "at least 620", "are worth about 900 gold rows, at least 620."),
        (gold(None, 1404), "at most 1,400", "are worth about 900 gold rows, at most 1,400."),
        (gold(None, None), "cannot be said", "gold rows that cannot be said"),
        (gold(1750, None, worth=None, beyond="above"), "at least 1,750", "above the whole curve"),
        (gold(None, 0.0, worth=None, beyond="below"), "at most 0", "below the whole curve"),
        (
            gold(-52.0, 36.0, worth=-8.0, break_even=None),
            "−8 (−52 to 36)",
            "worth −8 gold rows (−52 to 36).",
        ),
        (gold(200.0, 400.0, worth=None), "200 to 400", "are worth 200 to 400 gold rows."),
    ],
)
def test_gold_equivalents_in_words(
    results: Results, found: GoldWorth, words: str, said: str
) -> None:
    assert worth_in_words(found) == words
    [sentence] = section(results, gold=(found,)).gold
    assert sentence.startswith(f"{HOSTILE}: 1,500 labels ($0.42) are worth") and said in sentence


@pytest.mark.parametrize(
    ("gold_price", "said"),
    [
        (0.1, ": at $0.10, this is the cheaper way."),
        (0.0002, ": at $0.00020, people are the cheaper way."),
        (0.0005, ": at $0.00050, which is the cheaper way cannot be told."),
        (None, "$0.00047 a label ($0.00030 to $0.00068)."),
    ],
)
def test_the_break_even_price_is_compared_with_that_of_a_label(
    results: Results, gold_price: float | None, said: str
) -> None:
    assert section(results, gold_price=gold_price).gold[0].endswith(said)


def test_an_arm_that_costs_more_than_the_best_is_not_called_cheaper(results: Results) -> None:
    dearer = CheaperCandidate("half", 0.5, True, 0.001, HOSTILE, 0.02, 0.025)
    best = CheaperCandidate(HOSTILE, 0.42, True, 1e-4, "half", -0.02, -0.01)
    assert len(section(results, cheaper=(best, dearer)).answer) == 1
    cheap = replace(dearer, arm="labels", cost=0.0)
    said = section(results, cheaper=(cheap, best, dearer)).answer[1]
    assert said.endswith("is labels (p = 0.001).")
    two = section(results, cheaper=(cheap, replace(cheap, arm="half"), best)).answer[1]
    assert said.removesuffix(".") in two and two.endswith(", as is half.")


def test_an_arm_that_costs_nothing_has_no_break_even_price(results: Results) -> None:
    free = gold(618, 1404, break_even=0.0, break_even_low=0.0, break_even_high=0.0)
    assert section(results, gold=(free,)).gold[0].endswith("gold rows (620 to 1,400).")


def test_open_prices_and_reasons(results: Results) -> None:
    above = gold(1750, None, worth=None, break_even=None, beyond="above")
    assert "at a price of at most $0.00024 a label" in section(results, gold=(above,)).gold[0]
    nothing = gold(None, 0.0, worth=None, break_even=None, beyond="below")
    assert "People cost" not in section(results, gold=(nothing,)).gold[0]
    none = section(results, gold=(), no_gold="there are 2 sizes, expected 4")
    assert none.gold == (
        "What arms are worth in gold rows was not computed: there are 2 sizes, expected 4.",
    )


def test_the_scope_of_the_claim_is_said(results: Results) -> None:
    [first, *_] = section(results).scope
    assert "4,000 labelled rows and 3,000 unlabelled rows" in first and "5 seeds" in first
    assert not any("answer otherwise" in line for line in section(results).scope)
    assert "one training of each arm" in section(results, orders=1).scope[0]
    drawn = replace(ARMS[1], pool_share=0.72)
    crowded = section(results, arms=(ARMS[0], drawn)).scope
    assert any("up to 72% of the unlabelled rows" in line for line in crowded)
    assert not any("described, not tested" in line for line in crowded)
    assert section(results).scope[-1].endswith("are described, not tested.")


def test_what_was_paid_for_and_is_not_learnt_is_counted(results: Results) -> None:
    assert section(results).left_out == (
        f"{HOSTILE} paid for rows that it does not learn (mean over seeds): refused 3.5.",
    )
    costs = section(results, paid_usd=None).costs
    assert costs[0].endswith(
        "5,210 requests for all arms and seeds, each answer once: an unknown price."
    )
    assert costs[1].startswith("The labels of dev and test rows, which every arm needs, cost $130")


def test_numbers_in_words() -> None:
    assert [price(x) for x in (0, 1200, 0.42, 0.1, 0.0999, 0.0042, 0.000471)] == [
        "$0.00", "$1,200.00", "$0.42", "$0.10", "$0.10", "$0.0042", "$0.00047",
    ]  # fmt: skip
    assert [rounded(x) for x in (-4, 0.2, 99, 104, -1234, 12_345)] == [
        "−4", "0", "99", "100", "−1,230", "12,340",
    ]  # fmt: skip


def test_the_axis_is_one_that_all_arms_share() -> None:
    assert cost_axis(sample_worth()) == "usd"
    unpriced = (ARMS[0], arm("asks", "teacher labels", 0.7, **bought(None)))
    assert cost_axis(sample_worth(arms=unpriced)) == "rows"
    assert cost_axis(sample_worth(arms=unpriced, unit="tokens")) == "tokens"


def test_lines_are_interventions_in_rising_cost_and_teachers_have_their_own(
    results: Results,
) -> None:
    found = section(results)
    lines = cost_lines(found, "usd")
    assert [each.arm for _, each in lines["teacher labels"]] == ["half", HOSTILE]
    assert [cost for cost, _ in lines["gold rows"]] == [25, 75, 175]
    assert "gold rows" not in cost_lines(found, "rows")
    two = replace(found, models={HOSTILE: "chat", "half": "palm"})
    named = cost_lines(two, "usd")
    assert len(named["teacher labels by chat"]) == len(named["teacher labels by palm"]) == 1


def test_the_second_axis_has_the_sizes_that_do_better_than_smaller_ones() -> None:
    assert [size for size, _ in gold_ticks(sample_worth())] == [250, 500, 1000, 2000]
    worse = tuple(
        replace(each, accuracy=0.72) if each.arm == "gold 1000" else each for each in ARMS
    )
    assert [size for size, _ in gold_ticks(sample_worth(arms=worse))] == [250, 500, 2000]
    assert gold_ticks(sample_worth(curve=())) == []


def test_the_page_shows_picture_and_table_harmlessly(results: Results) -> None:
    html = render_report(results, title="t")
    part = html[html.index('aria-labelledby="worth"') :]
    part = part[: part.index("</section>")]
    assert part.count("<svg") == 2 and "<script" not in part and "<b>$" not in part
    described = re.findall(r"<desc[^>]*>(.*?)</desc>", part)[0]
    assert "teacher labels: half 75.0% (73.0 to 77.0%) for $0.21" in described
    assert "gold rows alone: 70.0% with 250, 74.0% with 500" in described
    text = " ".join(re.sub(r"<[^>]+>", " ", part[part.index("<tbody") :]).split())
    assert "teacher labels 250 1,500 $0.42 78.0% 76.0 to 80.0% 67.0% 900 620 to 1,400 yes" in text
    assert "rationales, 248 with rationale 250 0 $0.90" in text
    assert "gold rows, described only 500 0 $25.00" in text
    assert "Cost of use" in html[: html.index("</dl>")]


@pytest.mark.usefixtures("figures")
def test_costs_far_apart_are_on_a_log_scale_and_near_ones_are_not(results: Results) -> None:
    assert "(log scale)" in worth_plot(section(results), "w")
    near = section(results, arms=ARMS[:5], curve=())
    assert "(log scale)" not in worth_plot(near, "w") and "gold rows" not in worth_plot(near, "w")


def test_the_markdown_has_as_many_cells_in_each_row(results: Results) -> None:
    text = render_markdown(results, title="t")
    part = text[text.index("## What the money bought") : text.index("## Differences")]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ARMS)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "\n- chat" in part and "are worth 900 gold rows (620 to 1,400)" in part


def test_results_with_worth_are_read_as_they_were_written(results: Results) -> None:
    assert from_document(as_document(results)).worth == results.worth


def test_the_command_prints_table_and_sentences(results: Results, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(as_document(results)), encoding="utf-8")
    done = CliRunner().invoke(app, ["worth", str(tmp_path)])
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    assert "900 (620 to 1,400)" in shown and f"$1.00 is best spent on {HOSTILE}" in shown
    asked = CliRunner().invoke(app, ["worth", str(tmp_path), "--json"])
    assert json.loads(asked.output)["arms"][1]["arm"] == HOSTILE

    file.write_text(json.dumps(as_document(replace(results, worth=None))), encoding="utf-8")
    for folder, said in (
        (tmp_path, "all seeds learn the same gold rows"),
        (tmp_path / "no", "holds"),
    ):
        done = CliRunner().invoke(app, ["worth", str(folder)])
        assert done.exit_code == 2 or done.exception is not None
        assert said in str(done.exception) + done.output
