"""results.json is the serialised form of `Results`, all of it, and nothing else is read as one."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from tutelage.core.errors import RunFolderError
from tutelage.core.results import FORMAT, Results, load_results
from tutelage.core.results.decode import MismatchError, decode
from tutelage.core.storage import as_json, read_json, write_json

sys.path.append(str(Path(__file__).parents[1] / "report"))

import report_sample
import small_results

Document = dict[str, Any]

DAMAGES: dict[str, tuple[Callable[[Document], Any], str]] = {
    "a missing key": (lambda d: d.pop("arms"), "the document lacks the key 'arms'"),
    "an unknown key": (lambda d: d.update(looks={}), "the document has the unknown key 'looks'"),
    "a missing key inside": (
        lambda d: d["arms"][1]["test"].pop("accuracy"),
        r"arms\[1\]\.test lacks the key 'accuracy'",
    ),
    "an unknown key inside": (
        lambda d: d["comparisons"][0].update(p=0.1),
        r"comparisons\[0\] has the unknown key 'p'",
    ),
    "text for a number": (
        lambda d: d["arms"][0]["dev"].update(accuracy="0.5"),
        r"arms\[0\]\.dev\.accuracy: got '0\.5', expected a number",
    ),
    "a number for text": (lambda d: d.update(name=7), "name: got 7, expected text"),
    "a fraction for a count": (
        lambda d: d["data"]["test"].update(rows=0.5),
        r"data\.test\.rows: got 0\.5, expected a whole number",
    ),
    "true for a number": (
        lambda d: d["comparisons"][0].update(p_value=True),
        r"comparisons\[0\]\.p_value: got True, expected a number",
    ),
    "a number for true": (lambda d: d.update(finished=1), "finished: got 1, expected true or"),
    "an interval of three ends": (
        lambda d: d["comparisons"][0].update(ci95=[0, 1, 2]),
        r"comparisons\[0\]\.ci95: got \[0, 1, 2\], expected a list of 2",
    ),
    "a word that is not one of those": (
        lambda d: d["arms"][0].update(objective="nothing"),
        r"arms\[0\]\.objective: got 'nothing', expected one of 'label', 'label_then_rationale'",
    ),
    "a key that is not one of those": (
        lambda d: d["teacher"]["by_arm"]["informed-reasoning"]["statuses"].update(lost=1),
        r"teacher\.by_arm\.informed-reasoning\.statuses: got 'lost', expected one of 'ok'",
    ),
    "an object for a list": (lambda d: d.update(arms={}), r"arms: got \{\}, expected a list"),
    "a list for an object": (lambda d: d.update(data=[]), r"data: got \[\], expected an object"),
    "null": (lambda d: d.update(student=None), "student: got None, expected an object"),
}


@pytest.fixture(scope="module")
def sample() -> Results:
    return report_sample.sample_results(60, 2, {"labels": 0.0, "informed-reasoning": 0.1})


def test_a_finished_run_comes_back_as_it_was(finished: Path, tmp_path: Path) -> None:
    results = load_results(finished / "results.json")
    write_json(tmp_path / "again.json", results)
    assert load_results(tmp_path / "again.json") == results
    assert (tmp_path / "again.json").read_bytes() == (finished / "results.json").read_bytes()
    assert results.finished and results.format == FORMAT
    assert results.explanations and results.selection and results.choosing_on_test


def test_a_field_added_to_the_class_is_a_key_of_the_file() -> None:
    Grown = dataclasses.make_dataclass(
        "Grown", [("more", int)], bases=(Results,), frozen=True, kw_only=True
    )
    small = small_results.results()
    grown = Grown(**{f.name: getattr(small, f.name) for f in dataclasses.fields(small)}, more=7)
    document = json.loads(json.dumps(as_json(grown)))
    assert list(document) == [f.name for f in dataclasses.fields(Results)] + ["more"]
    assert document["more"] == 7
    assert decode(Grown, document) == grown
    with pytest.raises(MismatchError, match="lacks the key 'more'"):
        decode(Grown, json.loads(json.dumps(as_json(small))))


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _parts(kind: Any) -> Iterator[type]:
    """Every dataclass in a type."""
    if _is_part(kind):
        yield kind
    if get_origin(kind) is not Literal:
        for of in get_type_hints(kind).values() if _is_part(kind) else get_args(kind):
            yield from _parts(of)


def test_every_key_of_a_real_file_is_a_documented_field(finished: Path) -> None:
    """And every documented field is a key, at every level."""
    checked = set()

    def check(kind: Any, value: Any) -> None:
        inner = [of for of in get_args(kind) if of is not types.NoneType]
        if types.NoneType in get_args(kind):
            (kind,) = inner
            inner = list(get_args(kind))
        if value is None:
            return
        if _is_part(kind):
            checked.add(kind)
            assert list(value) == [field.name for field in dataclasses.fields(kind)], kind
            for name, of in get_type_hints(kind).items():
                check(of, value[name])
        elif isinstance(value, dict) and inner:
            for of in value.values():
                check(inner[1], of)
        elif isinstance(value, list) and inner:
            for of in value:
                check(inner[0], of)

    check(Results, read_json(finished / "results.json"))
    assert len(checked) > 25


def test_every_field_is_documented_and_so_is_none() -> None:
    parts = set(_parts(Results))
    assert len(parts) > 40
    for part in parts:
        text = "\n".join(base.__doc__ or "" for base in part.__mro__[:-1])
        entries = re.split(r"^    (?=[a-z][a-z0-9_]*(?:, [a-z0-9_]+)*:)", text, flags=re.MULTILINE)
        documented = {
            name.strip(): entry
            for entry in entries[1:]
            for name in entry.partition(":")[0].split(",")
        }
        for name, kind in get_type_hints(part).items():
            assert name in documented, f"{part.__name__}.{name}"
            if types.NoneType in get_args(kind):
                assert "None" in documented[name], f"{part.__name__}.{name}: when is it None?"


@pytest.mark.parametrize("found", [FORMAT + 1, 1, 0, "2", True, 1.5, None])
def test_another_format_is_refused_in_one_line(sample: Results, tmp_path: Path, found: Any) -> None:
    path = tmp_path / "results.json"
    write_json(path, as_json(sample) | {"format": found})
    what = "no format number" if found is None else f"format {found!r}"
    expected = f"{path}: has {what}, expected format {FORMAT}: run the recipe again: trainings"
    with pytest.raises(RunFolderError) as raised:
        load_results(path)
    assert str(raised.value).startswith(expected) and "\n" not in str(raised.value)


@pytest.mark.parametrize("document", [{}, [], "text", 7, None, {"arms": []}])
def test_what_has_no_format_is_refused(tmp_path: Path, document: Any) -> None:
    write_json(tmp_path / "results.json", document)
    with pytest.raises(RunFolderError, match=f"has no format number, expected format {FORMAT}"):
        load_results(tmp_path / "results.json")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_says_where(sample: Results, tmp_path: Path, name: str) -> None:
    damage, said = DAMAGES[name]
    document = report_sample.as_document(sample)
    damage(document)
    write_json(tmp_path / "results.json", document)
    with pytest.raises(RunFolderError, match=rf"results\.json: is damaged: {said}"):
        load_results(tmp_path / "results.json")


@pytest.mark.parametrize("content", ["{", "", "\x00"])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"results\.json: cannot be read"):
        load_results(tmp_path / "results.json")


def test_half_of_a_surrogate_pair_comes_back(tmp_path: Path) -> None:
    broken = small_results.results(test_rows_also_used_by=("run \ud800",))
    write_json(tmp_path / "results.json", broken)
    assert load_results(tmp_path / "results.json") == broken


def test_arms_say_what_they_are(sample: Results) -> None:
    labels, treatment = sample.arms
    assert sample.arm("labels") is labels
    with pytest.raises(KeyError):
        sample.arm("nobody")
    control = dataclasses.replace(treatment, control="shuffled")
    blind = dataclasses.replace(labels, omits=("premise",))
    kinds = [(a.is_treatment, a.is_control, a.sees_everything)
             for a in (labels, treatment, control, blind)]  # fmt: skip
    assert kinds == [
        (False, False, True), (True, False, True), (False, True, True), (False, False, False),
    ]  # fmt: skip
