"""What the students wrote, in the page, in Markdown and among the rows."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_sample import HOSTILE, NASTY, sample_predictions, write_folder
from test_page import Page

from tutelage.core.errors import RunFolderError
from tutelage.core.results import ArmExplanations, LabelPredictability, MeanWithInterval
from tutelage.core.storage import write_json, write_jsonl
from tutelage.core.types import Explanation
from tutelage.report.explanation_section import LONGEST, explanation_section
from tutelage.report.page import render_markdown, render_report
from tutelage.report.rows import pack_rows
from tutelage.report.run_files import read_files, read_run

ARMS = {
    "labels": 0.0,
    "informed-reasoning": 0.1,
    "informed-reasoning-shuffled": 0.0,
    HOSTILE: 0.05,
}
SEED = 1
ROWS = list(range(1, 31, 2))
"""Those that were explained."""


def _interval(mean: float, low: float, high: float) -> MeanWithInterval:
    return MeanWithInterval(mean, (low, high))


def _entry(**changes: Any) -> ArmExplanations:
    values: dict[str, Any] = {
        "seed": SEED,
        "rows": len(ROWS),
        "empty": 2,
        "cut": 3,
        "mean_words": 11.46,
        "mean_tokens": 17.2,
        "label_agreement": 0.875,
        "references": "the data's own reasons",
        "referenced": 9,
        "rouge_l": _interval(0.313, 0.254, 0.372),
        "chrf": _interval(0.281, 0.236, 0.326),
        "label_predictability": LabelPredictability(
            as_written=_interval(0.812, 0.7, 0.9),
            masked=_interval(0.577, 0.45, 0.7),
            majority=_interval(0.334, 0.2, 0.45),
            leakage=_interval(0.235, 0.131, 0.339),
            gain=_interval(0.243, 0.118, 0.368),
            trained_on=3950,
        ),
        "label_predictability_missing": None,
    }
    return ArmExplanations(**(values | changes))


def _text(arm: str, row: int) -> str:
    if arm == HOSTILE:
        return NASTY["premise"] if row == ROWS[0] else "word " * 400
    return "" if row == ROWS[1] else f"{arm} says so of {row}."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in which three arms explained fifteen rows, always with the same label."""
    results = write_folder(tmp_path, sample_predictions(60, 3, ARMS))
    explanations = {
        "informed-reasoning": _entry(),
        "informed-reasoning-shuffled": _entry(
            label_predictability=None, label_predictability_missing="19 rows <explained>"
        ),
        HOSTILE: _entry(label_agreement=None),
    }
    write_json(tmp_path / "results.json", replace(results, explanations=explanations))
    for arm in explanations:
        written = [
            Explanation(f"r{row}", _text(arm, row), "neutral", 9, row == ROWS[0]) for row in ROWS
        ]
        _write(tmp_path, arm, written)
    return tmp_path


def _write(folder: Path, arm: str, written: list[Explanation]) -> None:
    path = folder / "arms" / arm / "lr-0.003_w-1" / f"seed-{SEED}" / "explanations.jsonl"
    write_jsonl(path, written)


def test_the_page_says_what_was_measured(folder: Path) -> None:
    results, files = read_run(folder)
    html = render_report(results, title="Ours", files=files)
    page = Page(html)
    section = page.text[page.text.index("The students' own explanations") :]
    assert "(seed 1)" in section and "15 test rows" in section and "(9 rows;" in section
    assert "11.5 87.5% 0.313 0.254 to 0.372 0.281 0.236 to 0.326" in section
    assert "33.4% 81.2% 57.7% +23.5 13.1 to 33.9 +24.3 11.8 to 36.8" in section
    assert "was not measured for informed-reasoning-shuffled: 19 rows <explained>." in section
    assert HOSTILE in section and page.all("i") == [] and len(page.all("script")) == 3
    assert "window.hurt = 1</script>" in page.text  # as text
    listed = f"14 by informed-reasoning, 14 by informed-reasoning-shuffled, 15 by {HOSTILE}."
    assert f"Explanations written by students: {listed}" in page.text
    headings = [a.get("id") for name, a in page.elements if name == "h2"]
    assert "explanations" in headings


def test_the_examples_are_one_right_and_one_wrong_of_the_leading_arm(folder: Path) -> None:
    results, files = read_run(folder)
    found = explanation_section(results, files)
    assert found is not None and found.chosen_by == "informed-reasoning"
    assert [example.right for example in found.examples] == [True, False]
    made = sample_predictions(60, 3, ARMS)["informed-reasoning"][SEED]
    for example in found.examples:
        row = int(example.uid[1:])
        assert row in ROWS
        assert (made[row].label == made[row].gold == example.gold) is example.right
        before = [made[r].label == made[r].gold for r in ROWS if r < row]
        assert example.right not in before  # the first of its kind
        assert [written.arm for written in example.written] == [a for a in ARMS if a != "labels"]
        assert [written.control for written in example.written] == [False, True, False]
        lead, _, hostile = example.written
        assert lead.predicted == made[row].label and lead.label == "neutral"
        assert lead.cut is (row == ROWS[0])
        assert lead.text == _text("informed-reasoning", row)
        assert len(hostile.text) <= LONGEST
    page = Page(render_report(results, title="Ours", files=files))
    assert "One row that informed-reasoning got right" in page.text
    assert ("writes neutral" in page.text) is any(
        written.predicted != "neutral" for each in found.examples for written in each.written
    )


def test_markdown_has_the_table(folder: Path) -> None:
    results, files = read_run(folder)
    markdown = render_markdown(results, title="Ours", files=files)
    line = next(each for each in markdown.splitlines() if each.startswith("| informed-reasoning |")
                and "11.5" in each)  # fmt: skip
    assert line == (
        "| informed-reasoning | 2 | 3 | 11.5 | 87.5% | 0.313 | 0.281 | 33.4% | 81.2% | 57.7% "
        "| +23.5 | +24.3 | 11.8 to 36.8 |"
    )
    assert r"19 rows \<explained\>." in markdown
    table = markdown[markdown.index("| Arm | Empty |") :].split("\n\n")[0].splitlines()
    assert len(table) == 5 and len({each.replace(r"\|", "").count("|") for each in table}) == 1


def test_without_references_or_predictability_the_columns_are_left_out(folder: Path) -> None:
    results, files = read_run(folder)
    entry = _entry(
        references=None,
        referenced=0,
        rouge_l=None,
        chrf=None,
        label_predictability=None,
        label_predictability_missing="too few",
    )
    results = replace(results, explanations=dict.fromkeys(results.explanations or {}, entry))
    for text in (
        Page(render_report(results, title="Ours", files=files)).text,
        render_markdown(results, title="Ours", files=files),
    ):
        assert "The data have no reasons to compare the texts with." in text
        assert "0.313" not in text and "+24.3" not in text


def test_results_without_explanations_show_none(folder: Path) -> None:
    results, files = read_run(folder)
    none = replace(results, explanations=None)
    assert explanation_section(none, files) is None
    assert read_files(folder, none).explanations == {}
    assert "own explanations" not in render_markdown(none, title="Ours", files=files)
    alone = render_report(results, title="Ours")  # without the folder: numbers, no examples
    assert "own explanations" in alone and "got right" not in alone
    assert files.explanations


def test_the_rows_show_what_was_written(folder: Path) -> None:
    _, files = read_run(folder)
    of = files.predictions["informed-reasoning"].rationales
    assert of == {row: (SEED, _text("informed-reasoning", row)) for row in ROWS if row != ROWS[1]}
    assert files.predictions["labels"].rationales == {}
    packed = pack_rows(files, ["entailment", "neutral", "contradiction"])
    assert packed.written["informed-reasoning"] == (14, 14)
    texts = json.loads(zlib.decompress(b64decode(packed.texts)))
    arm = next(each for each in texts["arms"] if each["name"] == "informed-reasoning")
    assert arm["rationales"]["1"] == [SEED, "informed-reasoning says so of 1."]


def test_a_file_that_does_not_belong_to_the_results_is_not_shown(folder: Path) -> None:
    for rows in (["r1", "r3"], [f"else{i}" for i in ROWS]):
        _write(folder, "informed-reasoning", [Explanation(u, "x", None, 1, False) for u in rows])
        _, files = read_run(folder)
        assert "informed-reasoning" not in files.explanations
        assert files.predictions["informed-reasoning"].rationales == {}
        assert HOSTILE in files.explanations
    path = next(folder.glob("arms/informed-reasoning/*/seed-1/explanations.jsonl"))
    path.write_text('{"text": "no explanation"}\n')
    with pytest.raises(RunFolderError, match=r"explanations.jsonl: holds no explanations"):
        read_run(folder)
