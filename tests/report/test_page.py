"""The page: complete, escaped, self-contained, accessible, and the same twice."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_sample import (
    HOSTILE,
    as_document,
    from_document,
    sample_predictions,
    sample_results,
    write_folder,
)

from tutelage.core.errors import RunFolderError
from tutelage.core.results import (
    Comparison,
    Configuration,
    ContextComparison,
    Results,
    SearchSummary,
)
from tutelage.core.wording import p_value
from tutelage.report.page import answer_sentences, render_markdown, render_report, write_report
from tutelage.report.run_files import RunFiles, read_run

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The page's elements, and its text; fails on a tag that is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.parts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def results() -> Results:
    return sample_results(rows=600, seeds=3)


def without_arms(results: Results) -> Results:
    return replace(
        results,
        arms=(),
        comparisons=(),
        comparisons_unseen=(),
        choosing_on_test=None,
        recommended=None,
    )


@pytest.fixture(scope="module")
def html(results: Results, drawing: Callable[[], AbstractContextManager[None]]) -> str:
    with drawing():
        return render_report(results, title="<b>Ours</b> & 'theirs'")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_names_are_shown_harmlessly(html: str, page: Page) -> None:
    assert page.all("script") == [{}] and page.all("b") == []  # the page's own
    assert HOSTILE in page.text and "<b>Ours</b> & 'theirs'" in page.text
    attributes = [value or "" for _, each in page.elements for value in each.values()]
    assert any(HOSTILE in value for value in attributes)  # quotes did not end the attribute
    assert html.count("<script") == 1
    assert not any(name.startswith("on") for _, each in page.elements for name in each)


def test_the_page_fetches_nothing(html: str, page: Page) -> None:
    assert page.all("link") == page.all("img") == page.all("iframe") == []
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+[^\s\"'<]*", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in html
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", html))
    policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    only = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == [f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{only}'"]


def test_the_page_can_be_read_by_ear(page: Page) -> None:
    assert all(th.get("scope") in {"col", "row"} for th in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    identifiers = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert max(identifiers.values()) == 1
    for _, attributes in page.elements:
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in identifiers
        if (attributes.get("xlink:href") or "").startswith("#"):
            assert (attributes["xlink:href"] or "")[1:] in identifiers
    figures = page.all("svg")
    assert len(figures) == 12  # six figures, each for a wide and for a narrow screen
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in figures)
    assert len(page.all("h1")) == 1 and page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"


def test_figures_say_their_numbers_and_follow_the_theme(html: str, results: Results) -> None:
    described = re.search(r'id="forest-wide-described">(.*?)</desc>', html, re.DOTALL)
    assert described is not None
    for c in results.comparisons:
        assert f"{100 * abs(c.difference):.1f} points" in described[1]
    assert re.search(r"#0([1-8])(?:0\1){2}", html) is None  # no stand-in colour is left
    assert "stroke: var(--first)" in html and "prefers-color-scheme: dark" in html


def test_everything_is_on_the_page(page: Page, results: Results) -> None:
    for sentence in answer_sentences(results):
        assert sentence in page.text
    for arm in results.arms:
        assert f"{100 * arm.test.accuracy:.1f}%" in page.text
        assert f"{arm.test.macro_f1:.3f}" in page.text
        for row in arm.test.confusion:
            assert " ".join(f"{count:,}" for count in row) in page.text
        assert arm.test_unseen is not None
        for seen in (arm.test, arm.test_unseen):
            assert f"{100 * seen.ci95[0]:.1f} to {100 * seen.ci95[1]:.1f}%" in page.text
    assert results.choosing_on_test is not None
    for claim in results.choosing_on_test.claims:
        assert f"{100 * abs(claim.difference):.1f}" in page.text
    for fact in (
        "3,950 11 24 15 0",  # statuses, with one that no answer had
        "$1.37", "1,204,331 sent, – received", "9,310 sent by the last call, 310 answered",
        "train 4,000 12", "test 600 3", "333 test rows share a premise",
        "tutelage run recipe.yaml", "400 of 600 test rows share no premise", "batch_size 64",
        "crossed random effects over 200 premises and 3 seeds",
        "on 600 rows from 200 premises and 3 seeds",
        "Test rows whose premise was not seen in training",
        "treats rows that share a premise as independent", "secondary analysis of the same models",
        "smaller than 1.0 points either way, not corrected", "p within ±1.0",
    ):  # fmt: skip
        assert fact in page.text


def test_every_term_is_defined_before_it_is_used(html: str, results: Results) -> None:
    shown = Page(html).text
    defined = shown[shown.index("Terms used on this page") :]
    for term in ("Arm", "Treatment arm", "Control arm", "Baseline", "Margin", "Holm's correction"):
        assert f" {term} " in defined[: defined.index(answer_sentences(results)[0])]
    for word in ("filler (", "label echo (", "shuffled ("):
        assert word in defined
    assert "taken not to matter (here 1.0 points)" in defined
    assert shown.index("Did training on explanations help?") < shown.index("Terms used")
    text = render_markdown(results, title="t")
    assert text.index("- Control arm: ") < text.index(" ways of training on explanations")


def test_the_answer_comes_first(page: Page) -> None:
    headings = [attributes.get("id") for tag, attributes in page.elements if tag == "h2"]
    assert headings == [
        "answer", "differences", "arms", "baselines", "choosing", "chance", "unseen", "labels",
        "slices", "calibration", "training", "data", "lost", "cost", "repeat",
    ]  # fmt: skip
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_a_line_parts_the_two_families(results: Results, html: str) -> None:
    assert 'class="apart"' not in html
    families = tuple(replace(c, primary=n < 2) for n, c in enumerate(results.comparisons))
    others = replace(results, comparisons=families)
    page = render_report(others, title="two families")
    table = page[page.index('id="comparisons-table"') :]
    assert page.count('class="apart"') == 1
    rows = re.findall(r"<tr( class=.apart.)?><th scope=.row.", table[: table.index("</table>")])
    assert [bool(found) for found in rows][:4] == [False, False, True, False][: len(rows)]


@pytest.mark.usefixtures("figures")
def test_the_same_results_give_the_same_bytes(html: str, results: Results) -> None:
    assert render_report(results, title="<b>Ours</b> & 'theirs'") == html


def test_what_a_run_does_not_have_is_left_out(results: Results) -> None:
    document = as_document(results)
    document |= {"comparisons_unseen": [], "choosing_on_test": None, "finished": False}
    for arm in document["arms"]:
        arm["test_unseen"] = None
        arm["test"]["macro_f1"] = None
        arm["test"]["per_label"]["neutral"] = {
            "precision": None, "recall": 0.0, "f1": 0.0, "support": 4
        }  # fmt: skip
    document["teacher"]["cost_usd"] = None
    page = Page(render_report(from_document(document), title="bare"))
    headings = [attributes.get("id") for tag, attributes in page.elements if tag == "h2"]
    assert "unseen" not in headings and "choosing" not in headings
    assert "not finished" in page.text and "Dollars unknown" in page.text
    assert "neutral – 0.000 0.000 4" in page.text


def test_a_single_configuration_needs_no_table_of_those_tried(results: Results, html: str) -> None:
    arms = tuple(replace(arm, configurations=1, trials=()) for arm in results.arms)
    single = replace(results, arms=arms, search=SearchSummary(1, 0, ("training",), ("rows",)))
    shown = render_report(single, title="single")
    assert html.count("Dev accuracy of each trial") == len(results.arms)
    assert "Dev accuracy of each trial" not in shown
    assert "nothing to choose" in shown and "nothing to choose" not in html


def test_a_run_that_has_tested_nothing_has_a_page(results: Results) -> None:
    page = Page(render_report(without_arms(results), title="empty"))
    assert "No arm has been tested yet" in page.text


def test_a_manifest_that_lacks_something_is_one_clear_line(results: Results) -> None:
    files = RunFiles(manifest={"last_call": "2026-01-03T03:04:05Z"})
    with pytest.raises(RunFolderError, match=r"manifest\.json lacks .*'machine'.*tutelage run"):
        render_report(replace(results, seconds=1.0), title="damaged", files=files)


@pytest.mark.usefixtures("figures")
def test_many_long_names_still_fit(results: Results) -> None:
    names = {c.arm: f"arm-{'x' * 5000}-end-{n}" for n, c in enumerate(results.comparisons)}
    long = replace(
        results,
        arms=tuple(replace(arm, name=names.get(arm.name, arm.name)) for arm in results.arms),
        comparisons=tuple(replace(c, arm=names[c.arm]) for c in results.comparisons),
    )
    html = render_report(long, title="long")
    labels = re.findall(r"<text[^>]*>(arm-x[^<]*)</text>", html)
    assert labels and all(len(label) < 60 and "…" in label for label in labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample")
    write_folder(path, sample_predictions(120, 3))
    return path


def test_a_run_s_folder_adds_its_rows_versions_and_recipe(folder: Path) -> None:
    path = write_report(folder)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert html.count("<script") == 3  # two blocks of data, and the page's own
    assert [s.get("type") for s in page.all("script")] == ["application/octet-stream"] * 2 + [None]
    for fact in (
        "7 min 13 s", "labels none 0 0 – 53 s", "ab" * 32, "cd" * 20, "python 3.11.7 , torch –",
        "Test set opened 1 time: 2026-01-03T01:00:00Z",
        "And for thresholds 0.8000: 83.1%, the student alone 81.0%; 0.6500 (no answer was kept). "
        "The best of several is too good on average.", "name: sample # <i>a recipe</i>",
        "informed-reasoning refused I cannot help with <that> 3",
        "informed-reasoning empty none given 2",
    ):  # fmt: skip
        assert fact in page.text
    results, files = read_run(folder)
    assert "thresholds below which the teacher is asked: 0.8000: 83.1%" in render_markdown(
        results, title="t", files=files
    )
    opened = {**files.manifest, "thresholds_on_test": []}
    without = render_report(results, title="t", files=replace(files, manifest=opened))
    assert "for thresholds" not in without
    names = [option.get("value") for option in page.all("option")]
    assert "every arm" in page.text and names.count("6") == 2  # seven arms, to choose and to unlike
    controls = [c["id"] for kind in ("select", "input") for c in page.all(kind)]
    assert sorted(controls) == sorted(label["for"] for label in page.all("label"))
    write_report(folder)
    assert path.read_text(encoding="utf-8") == html


def test_predictions_that_do_not_belong_to_the_results_are_not_shown(folder: Path) -> None:
    document = as_document(read_run(folder)[0])
    for arm in document["arms"]:
        arm["test"]["confusion"][0][0] += 1
    before = (folder / "results.json").read_bytes()
    (folder / "results.json").write_text(json.dumps(document), encoding="utf-8")
    try:
        changed, files = read_run(folder)
    finally:
        (folder / "results.json").write_bytes(before)
    assert list(files.foreign) == [arm.name for arm in changed.arms]
    page = Page(render_report(changed, title="changed", files=files))
    assert "do not belong to results.json" in page.text
    assert page.all("form") == []


def test_markdown_says_the_same_and_reads_no_name_as_markup(folder: Path) -> None:
    results, files = read_run(folder)
    text = render_markdown(results, title="<b>Ours</b> | 'theirs'", files=files)
    assert r"# \<b\>Ours\</b\> \| 'theirs'" in text
    plain = text.replace("\\", "").replace("**", "")
    for sentence in answer_sentences(results):
        assert sentence in plain
    for arm in results.arms:
        assert f"{100 * arm.test.accuracy:.1f}%" in text
    for c in results.comparisons:
        assert f"{100 * abs(c.difference):.1f}" in text
    for fact in ("$1.37", "3,950", "7 min 13 s", "tutelage run recipe.yaml", "torch –"):
        assert fact in plain
    assert "<script" not in text.replace(r"\<", "")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
        assert len(set(lines)) == 1, block  # as many cells in every row
    assert "\n\n\n\n" not in text


def test_markdown_has_the_tables_of_the_page(folder: Path) -> None:
    results, files = read_run(folder)
    config = Configuration(0.0045, 0.25)
    results = replace(
        results,
        arms=tuple(
            replace(
                arm,
                config_by_seed=(config, *arm.config_by_seed[1:]),
                trials=(arm.trials[0], replace(arm.trials[1], config=config), *arm.trials[2:]),
            )
            for arm in results.arms
        ),
    )
    text = render_markdown(results, title="t", files=files)
    for arm in results.arms[:2]:
        scores = arm.test.per_label["neutral"]
        shown = [scores.precision, scores.recall, scores.f1]
        row = " | ".join(f"{score:.3f}" for score in shown)
        assert f"| {arm.name} | neutral | {row} | {scores.support} |" in text
        tried = arm.trials[1].dev_accuracy
        assert tried is not None
        chosen = "learning rate 0.0045, label weight 0.25"
        assert f"| {arm.name} | 0 | {chosen} | {100 * tried:.1f}% | chosen |" in text
        reached = arm.dev.accuracy_by_seed[0], arm.test.accuracy_by_seed[0]
        dev, test = (f"{100 * accuracy:.1f}%" for accuracy in reached)
        assert f"| {arm.name} | 0 | {chosen} | {dev} | {test} | 700 | 744 |  |" in text
        assert f"| {arm.name} | 53 s |" in text
    for fact in (
        r"| informed-reasoning | refused | I cannot help with \<that\> | 3 |",
        "| informed-reasoning | empty | none given | 2 |",
        "crossed random effects over 40 premises and 3 seeds",
        "treats rows that share a premise as independent", "secondary analysis", "p within ±1.0",
    ):  # fmt: skip
        assert fact in text
    c = results.comparisons[0]
    by_seed = ", ".join(p_value(p) for p in c.mcnemar_p_by_seed).replace("<", r"\<")
    assert f"| {c.arm} − {c.baseline} | {by_seed} |" in text
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") == 6
    assert "\n\n\n\n" not in text


def test_a_task_without_a_context_has_groups_of_rows(folder: Path) -> None:
    results, files = read_run(folder)
    arms = tuple(replace(arm, configurations=1, trials=()) for arm in results.arms)
    search = SearchSummary(1, 0, ("training",), ("rows",))
    results = replace(results, task=replace(results.task, context=None), arms=arms, search=search)
    text = render_markdown(results, title="none", files=files)
    assert "over 40 groups of rows and 3 seeds" in text
    assert "120 rows in 40 groups of rows, 3 seeds)" in text
    assert "Test rows whose context was not seen" in text and "Trials:" not in text
    assert "\n\n\n\n" not in text
    page = Page(render_report(replace(results, comparisons_unseen=()), title="none"))
    assert "McNemar p by seed" in page.text


def test_the_comparisons_with_baselines_are_below_their_table(folder: Path) -> None:
    results, files = read_run(folder)
    pairs = [("labels", 0.02, (-0.01, 0.05)), ("informed-reasoning", 0.1, (0.06, 0.14))]
    of_all = {f.name: getattr(results.comparisons[0], f.name) for f in fields(Comparison)}
    compared = tuple(
        ContextComparison(
            **of_all | {"arm": arm, "baseline": "only_half", "difference": d, "ci95": ci},
            kind="omits",
        )
        for arm, d, ci in pairs
    )
    results = replace(results, context_comparisons=compared)
    text = render_markdown(results, title="t", files=files)
    assert (
        r"Minus only\_half, in points, paired row by row, outside the families of comparisons and "
        "not corrected: labels +2.0 (−1.0 to 5.0), informed-reasoning +10.0 (6.0 to 14.0)." in text
    )
    assert "\n\n\n\n" not in text


def test_markdown_of_a_bare_run(results: Results) -> None:
    text = render_markdown(without_arms(results), title="empty")
    assert "No arm has been tested yet" in text


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_contrast_with_their_grounds(html: str) -> None:
    themes = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", t)) for t in html.split(":root")[1:4]]
    assert len(themes) == 3 and themes[1] == themes[2] and themes[0].keys() == themes[1].keys()
    for theme in themes:
        pairs = [
            (text, ground)
            for text in ("ink", "muted", "first", "second", "good", "bad")
            for ground in ("card", "ground", "soft")
        ]
        for text, ground in [
            *pairs,
            ("ink", "mark"),
            *((t, "bar") for t in ("ink", "muted", "good", "bad")),
        ]:
            light, dark = sorted((_luminance(theme[text]), _luminance(theme[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
