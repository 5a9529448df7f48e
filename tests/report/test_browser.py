"""The page in a browser: nothing leaves it, rows are found and shown harmlessly, and it is quick.

Debian's chromium, driven by playwright; skipped where either is missing.
"""

from __future__ import annotations

import random
import re
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_sample import (
    NASTY,
    Predictions,
    sample_predictions,
    sample_results,
    sample_rows,
    write_folder,
)
from worth_sample import sample_worth

from chromium import launched, needs_chromium
from tutelage.core.results import load_results
from tutelage.core.storage import read_jsonl, write_jsonl
from tutelage.core.types import Example
from tutelage.report.answer import findings
from tutelage.report.page import render_report, write_report
from tutelage.report.run_files import ArmPredictions, RunFiles

pytestmark = needs_chromium

ROWS, SEEDS = 120, 3
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return sample_predictions(ROWS, SEEDS)


@pytest.fixture(scope="module")
def report(
    predictions: Predictions,
    tmp_path_factory: pytest.TempPathFactory,
    drawing: Callable[[], AbstractContextManager[None]],
) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_folder(folder, predictions)
    path = folder / "arms" / "informed-reasoning" / "lr-0.003_w-1" / "seed-1" / "test.jsonl"
    rows = list(read_jsonl(path))
    rows[7]["rationale"] = "<i>Because</i> of seven."
    write_jsonl(path, rows)
    with drawing():
        return write_report(folder)


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Open]:
    """Opens the page; at the end, nothing was fetched but it, and nothing went wrong in it."""
    contexts, requests, faults = [], [], []

    def open_page(path: Path = report, viewport: Any = WIDE, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("#rows-list li")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert requests and all(url.startswith("file://") for url in requests)
    assert len(requests) == len(contexts)
    assert faults == []


def state(page: Any) -> str:
    return str(page.locator("#rows-state").text_content())


def choose(page: Any, **choices: str) -> str:
    for name, choice in choices.items():
        page.select_option(f"#rows-{name}", label=choice)
    return state(page)


def search(page: Any, text: str) -> None:
    before = page.locator("#rows-list li").first.element_handle()
    page.fill("#rows-search", text)
    before.wait_for_element_state("hidden")  # the list was made anew


def test_the_report_of_a_real_run(finished: Path, opened: Open) -> None:
    """A small one, but trained; the other tests here use simulated ones."""
    results = load_results(finished / "results.json")
    rows = list(read_jsonl(finished / "rows.jsonl"))
    (arm,) = (a for a in results.arms if a.is_treatment)
    hits = [0] * len(rows)
    for folder in arm.folder_by_seed:
        rows_of_seed = read_jsonl(finished / folder / "test.jsonl")
        label = {row["uid"]: row["label"] for row in rows_of_seed}
        hits = [n + (label[row["uid"]] == row["label"]) for n, row in zip(hits, rows, strict=True)]
    share = sum(hits) / len(rows) / len(arm.seeds)
    assert share == pytest.approx(arm.test.accuracy)

    page = opened(finished / "report.html")
    assert findings(results)[0].sentences[0] in page.locator("section.answer").inner_text()
    assert state(page) == f"All {len(rows)} rows"
    neutral = [n for n, row in zip(hits, rows, strict=True) if row["label"] == "neutral"]
    assert choose(page, gold="neutral") == f"{len(neutral)} of {len(rows)} rows"
    for answer in ("right", "wrong"):
        # Right: more than half of the seeds are.
        count = sum((2 * n > len(arm.seeds)) == (answer == "right") for n in neutral)
        shown = choose(page, arm=arm.name, answer=answer)
        assert shown == f"{count} of {len(rows)} rows"
    page.click("#rows-reset")
    page.get_by_text(f"All {len(rows)} rows").wait_for()

    text = rows[20]["fields"]["premise"]
    found = [row for row in rows if row["fields"]["premise"] == text]
    page.fill("#rows-search", text)
    page.locator("#rows-state", has_text=re.compile(f"^{len(found)} of ")).wait_for()
    first = page.locator("#rows-list li").first
    assert first.locator("mark").first.inner_text() == text
    lines = first.locator("tbody tr").all_inner_texts()
    for line, each in zip(lines, results.arms, strict=True):
        assert line.startswith(each.name)

    for theme, colour in (("dark", "rgb(20, 23, 27)"), ("light", "rgb(246, 246, 243)")):
        page.get_by_label("Theme").select_option(theme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == colour
    # `opened` sees to it that nothing was fetched but the page.


def right(rows: list[Any]) -> bool:
    return 2 * sum(p.label == p.gold for p in rows) > len(rows)


def of_row(predictions: Predictions, arm: str, row: int) -> list[Any]:
    return [by_seed[row] for by_seed in predictions[arm].values()]


def test_filters_leave_the_rows_they_should(opened: Open, predictions: Predictions) -> None:
    page = opened()
    rows = range(ROWS)
    assert state(page) == f"All {ROWS} rows"

    def count(of: Callable[[int], bool]) -> str:
        return f"{sum(map(of, rows))} of {ROWS} rows"

    def is_right(arm: str, row: int) -> bool:
        return right(of_row(predictions, arm, row))

    arm = "informed-reasoning"
    assert choose(page, arm=arm, answer="right") == count(lambda row: is_right(arm, row))
    assert choose(page, other="labels") == count(
        lambda row: is_right(arm, row) and not is_right("labels", row)
    )
    assert choose(page, other="no other arm", answer="wrong", gold="neutral") == count(
        lambda row: not is_right(arm, row) and row % 3 == 1
    )
    page.click("#rows-reset")
    page.get_by_text(f"All {ROWS} rows").wait_for()
    assert choose(page, arm="labels", seeds="differ") == count(
        lambda row: len({p.label for p in of_row(predictions, "labels", row)}) > 1
    )
    assert choose(page, arm="every arm", seeds="agree or differ", answer="wrong") == count(
        lambda row: not any(is_right(each, row) for each in predictions)
    )
    page.click("#rows-reset")
    assert choose(page, tag="<b>names</b>") == count(lambda row: row % 5 == 0)
    first = page.locator("#rows-list li").first.inner_text()
    assert "Row 1\n" in first and "<b>names</b>" in first and "It is so because of 0." in first


def test_a_row_shows_what_every_arm_predicts(opened: Open, predictions: Predictions) -> None:
    page = opened()
    search(page, "Hy 7.")
    assert state(page) == f"1 of {ROWS} rows"
    row = page.locator("#rows-list li")
    assert row.locator("mark").all_inner_texts() == ["Hy 7."]
    texts = row.inner_text()
    assert "gold: neutral" in texts and "Text 2." in texts
    assert (
        "Explanation by informed-reasoning, seed 1" in texts and "<i>Because</i> of seven." in texts
    )
    lines = row.locator("tbody tr").all_inner_texts()
    assert len(lines) == len(predictions)
    for line, arm in zip(lines, predictions, strict=True):
        said = of_row(predictions, arm, 7)
        assert f"{sum(p.label == 'neutral' for p in said)} of 3 seeds right" in line
        for label in ("entailment", "neutral", "contradiction"):
            assert f"{100 * sum(p.probabilities[label] for p in said) / 3:.1f}%" in line


def test_accuracy_on_the_rows_selected(opened: Open, predictions: Predictions) -> None:
    page = opened()
    page.click("#rows-share summary")
    choose(page, gold="contradiction")
    shown = dict(zip(predictions, page.locator("#share-body td").all_inner_texts(), strict=True))
    for arm, by_seed in predictions.items():
        hits = [p.label == p.gold for rows in by_seed.values() for p in rows[2::3]]
        assert shown[arm] == f"{100 * sum(hits) / len(hits):.1f}%"


def test_searching_takes_every_character_as_it_is(opened: Open) -> None:
    page = opened()
    rows = sample_rows(ROWS)
    texts = [" ".join([*row["fields"].values(), row["reason"] or "", row["uid"]]) for row in rows]
    for text in ("hY 1", "hy 11.", ".*", "'single'", "because of 8", "r5", "because of [", "\\"):
        found = sum(text.lower() in each.lower() for each in texts)
        page.fill("#rows-search", text)
        page.locator("#rows-state", has_text=re.compile(f"^{found} of ")).wait_for()


def test_a_nasty_row_is_text_and_nothing_else(opened: Open) -> None:
    page = opened(viewport=NARROW)
    search(page, "window.hurt")
    assert state(page) == f"1 of {ROWS} rows"
    assert page.evaluate("window.hurt") is None
    row = page.locator("#rows-list li")
    assert row.locator("script, img, i, b").count() == 0
    premise, hypothesis = (row.locator("dl:first-of-type > dd").nth(i) for i in (0, 1))
    assert premise.evaluate("e => e.textContent") == NASTY["premise"]
    assert hypothesis.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert premise.evaluate("e => getComputedStyle(e).direction") == "ltr"
    assert len(hypothesis.evaluate("e => e.firstChild.textContent")) == 601
    row.get_by_role("button", name="Show all 5,010 characters").click()
    assert hypothesis.evaluate("e => e.textContent") == NASTY["hypothesis"]
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert page.evaluate("document.title") == "Tutelage: sample"


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(opened: Open, system: str) -> None:
    page = opened(color_scheme=system)

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    colours = {"light": "rgb(246, 246, 243)", "dark": "rgb(20, 23, 27)"}
    assert ground() == colours[system]
    axis = {"light": "rgb(90, 99, 110)", "dark": "rgb(165, 174, 185)"}
    for choice in ("dark", "light"):
        page.get_by_label("Theme").select_option(choice)
        assert ground() == colours[choice]
        drawn = page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
        assert drawn == axis[choice]
    page.get_by_label("Theme").select_option("system")
    assert ground() == colours[system]


def test_pages_of_rows(opened: Open) -> None:
    page = opened()
    assert page.locator("#rows-list li").count() == 10
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_role("button", name="Next").click()
    assert page.locator("#rows-place").text_content() == f"11 to 20 of {ROWS}"
    assert page.locator("#rows-list h3").first.text_content().startswith("Row 11r10")
    choose(page, tag="numbers")
    assert page.locator("#rows-place").text_content() == f"1 to 10 of {ROWS // 2}"


def test_by_keyboard_and_by_ear(opened: Open) -> None:
    page = opened()
    for label in ("Search in the texts", "Arm", "Answer", "Unlike", "Seeds", "Gold label", "Tag"):
        assert page.get_by_label(label, exact=True).count() == 1, label
    links = page.get_by_role("navigation").get_by_role("link")
    assert links.all_inner_texts()[0] == "Did training on explanations help?"
    assert links.count() == page.locator("main h2").count()
    page.get_by_label("Search in the texts").focus()
    for expected in ("rows-arm", "rows-answer"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == expected
    assert page.locator("#rows-list td").count() == 10 * 7 * 3
    assert page.locator("#rows-list table > caption").count() == 10
    unnamed = "th:not([scope]), table:not(:has(caption)), svg:not([aria-labelledby])"
    assert page.locator(unnamed).count() == 0


def test_on_paper_all_is_open_and_light(opened: Open) -> None:
    page = opened(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("#browser").is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 38)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


def test_without_javascript_all_but_the_rows_is_there(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("noscript p").is_visible()
    assert page.locator("#answer").is_visible()
    assert not page.locator("#rows-form").is_visible()
    assert not page.get_by_label("Theme").is_visible()


def test_nothing_sticks_out(opened: Open) -> None:
    page = opened()
    for width in (1400, 768, 390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_tables_of_long_words_fit_into_a_wide_page(browser: Any, tmp_path: Path) -> None:
    bought = sample_worth()
    arms = tuple(
        replace(
            arm, intervention="teacher labels and rationales", gold_rows=12_500, pool_rows=12_345.0,
            rationales=1200.0, cost=arm.cost and replace(arm.cost, usd=None, requests=12_345.0),
        )
        for arm in bought.arms
    )  # fmt: skip
    gold = tuple(replace(one, worth=12_300.0, low=11_000.0, high=15_400.0) for one in bought.gold)
    results = replace(
        sample_results(60, 2, {"labels": 0.0, "informed-reasoning": 0.1}),
        worth=replace(bought, arms=arms, gold=gold),
    )
    path = tmp_path / "report.html"
    path.write_text(render_report(results, title="t"), encoding="utf-8")
    with browser.new_context(viewport=WIDE) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        for caption in ("worth-caption", "comparisons-table"):
            table = page.locator(f".scroll[aria-labelledby={caption}]")
            widths = table.evaluate("table => [table.scrollWidth, table.clientWidth]")
            assert widths[0] == widths[1] > 800, caption


def many_rows(rows: int, arms: list[str], seeds: int) -> RunFiles:
    """Rows of some 400 characters in words that repeat as little as real ones."""
    rng = random.Random(5)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 9))) for _ in range(20_000)]
    drawn = rng.choices(words, k=65 * rows)

    def numbers(most: int) -> array[int]:
        return array("H", rng.choices(range(most), k=rows))

    return RunFiles(
        uids=[f"r{i}" for i in range(rows)],
        gold=numbers(3),
        examples=[
            Example(
                f"r{i}",
                {
                    "premise": " ".join(drawn[65 * i : 65 * i + 55]),
                    "hypothesis": " ".join(drawn[65 * i + 55 : 65 * i + 65]),
                },
                "neutral",
                tags=("numbers",) if i % 2 else (),
            )
            for i in range(rows)
        ],
        predictions={
            arm: ArmPredictions(
                tuple(range(seeds)),
                tuple(numbers(3) for _ in range(seeds)),
                tuple(numbers(1001) for _ in range(3)),
                {},
            )
            for arm in arms
        },
    )


def test_twenty_thousand_rows_open_at_once_and_stay_small(opened: Open, tmp_path: Path) -> None:
    results = sample_results(rows=60, seeds=5)
    files = many_rows(20_000, [arm.name for arm in results.arms], 5)

    def written(files: RunFiles) -> Path:
        rows = len(files.uids)
        path = tmp_path / f"report-{rows}.html"
        path.write_text(render_report(results, title="many", files=files), encoding="utf-8")
        return path

    def seconds_to_open(path: Path) -> float:
        start = time.perf_counter()
        opened(path)
        return time.perf_counter() - start

    path = written(files)
    assert 3_000_000 < path.stat().st_size < 15_000_000
    # The promise of 2 s is for an idle machine. On a busy or slow one a page of 60 rows takes long
    # too, and 20,000 rows may take twice its time.
    # Both are opened by turns, since how busy it is changes.
    few = written(many_rows(60, [arm.name for arm in results.arms], 5))
    times, small = list[float](), list[float]()
    while len(times) < 15 and min(times, default=2.0) >= max(2.0, 2 * min(small, default=0.0)):
        small.append(seconds_to_open(few))
        times.append(seconds_to_open(path))
    assert min(times) < max(2.0, 2 * min(small)), (times, small)
    page = opened(path)
    assert state(page) == "All 20,000 rows"
    assert page.locator("#rows-list li").count() == 10
    last = files.examples[-1].fields["hypothesis"]
    search(page, last)
    assert state(page) == "1 of 20,000 rows"
    assert page.locator("#rows-list mark").all_inner_texts() == [last]
    assert choose(page, tag="numbers") == "1 of 20,000 rows"
