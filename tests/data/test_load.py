import csv
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import DataError, MissingExtraError, TutelageError, UsageError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.data.load import load_examples, parse_spec, stream_examples

SENTIMENT = Task(name="mood", fields=("text",), labels=("good", "bad"), spellings={"+": "good"})
ROWS = [
    {"premise": "A dog runs.", "hypothesis": "An animal moves.", "label": "entailment"},
    {"premise": "A dog runs.", "hypothesis": "The dog is old.", "label": 1},
    {"premise": "A cat naps.", "hypothesis": "The cat is awake.", "label": "C"},
]
LABELS = ["entailment", "neutral", "contradiction"]


def jsonl(path: Path, rows: list[object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def table(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def message(spec: str, task: Task = NLI, **keywords: object) -> str:
    """The one-line message of the error that loading raises."""
    with pytest.raises(TutelageError) as caught:
        load_examples(spec, task, **keywords)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


# Formats


def test_jsonl_rows_become_examples(tmp_path: Path) -> None:
    spec = jsonl(tmp_path / "a.jsonl", ROWS)
    examples = load_examples(spec, NLI)
    assert [e.label for e in examples] == LABELS
    assert examples[0].fields == {"premise": "A dog runs.", "hypothesis": "An animal moves."}
    assert (examples.source, examples.unlabelled, len(examples)) == (spec, 0, 3)
    assert isinstance(examples[1], Example)
    assert examples[1:] == tuple(examples)[1:]


def test_examples_are_shown_and_become_a_table(tmp_path: Path) -> None:
    examples = load_examples(jsonl(tmp_path / "a.jsonl", ROWS), NLI)
    assert repr(examples).startswith("<3 examples from ")
    assert "entailment (1)" in repr(examples) and len(repr(examples)) < 300
    pytest.importorskip("pandas")
    table = examples.to_pandas()
    assert list(table["label"]) == LABELS
    assert list(table.columns) == ["uid", "premise", "hypothesis", "label", "reason"]


def test_extra_columns_are_read(tmp_path: Path) -> None:
    row = ROWS[0] | {"uid": 7, "reason": " Dogs are animals. ", "tags": ["b", "a", "b"]}
    other = ROWS[1] | {"uid": "x", "reason": "", "tags": "first; second,third"}
    [first, second] = load_examples(jsonl(tmp_path / "a.jsonl", [row, other]), NLI)
    assert (first.uid, first.reason, first.tags) == ("7", "Dogs are animals.", ("b", "a"))
    assert (second.uid, second.reason, second.tags) == ("x", None, ("first", "second", "third"))


def test_optional_keys_may_be_missing_from_some_json_rows(tmp_path: Path) -> None:
    spec = jsonl(tmp_path / "a.jsonl", [ROWS[0] | {"why": "So."}, ROWS[1]])
    assert [e.reason for e in load_examples(spec, NLI, columns={"reason": "why"})] == ["So.", None]


def test_several_people_may_give_a_reason(tmp_path: Path) -> None:
    why = [" So. ", "", "Thus.", "So.", "Hence."]
    rows = [ROWS[0] | {"why": why}, ROWS[1] | {"why": []}]
    spec = jsonl(tmp_path / "a.jsonl", rows)
    first, second = load_examples(spec, NLI, columns={"reason": "why"})
    assert first.reason == "So."
    assert first.references == {"human-2": "Thus.", "human-3": "Hence."}
    assert (second.reason, second.references) == (None, {})
    spec = jsonl(tmp_path / "b.jsonl", [ROWS[0] | {"why": ["So.", 3]}])
    with pytest.raises(DataError, match=r"got \['So.', 3\], expected text, a list of texts or"):
        load_examples(spec, NLI, columns={"reason": "why"})


def test_unlabelled_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    blank = [ROWS[0] | {"label": label} for label in (-1, "-", None, "")]
    examples = load_examples(jsonl(tmp_path / "a.jsonl", [*blank, *ROWS]), NLI)
    assert (len(examples), examples.unlabelled) == (3, 4)


def test_separators_inside_a_json_string_do_not_end_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    text = json.dumps(ROWS[0] | {"premise": "one\u2028two\x85three"}, ensure_ascii=False)
    path.write_text(f"\ufeff{text}\r\n\r\n", encoding="utf-8")
    assert load_examples(str(path), NLI)[0].fields["premise"] == "one\u2028two\x85three"


def test_csv_with_mapped_columns_quotes_and_a_bom(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        '\ufeffs1,s2,gold\n"He said ""no"",\nand left.",He left.,0\nA dog.,A cat.,2.0\n',
        encoding="utf-8",
    )
    columns = {"premise": "s1", "hypothesis": "s2", "label": "gold"}
    examples = load_examples(str(path), NLI, columns=columns)
    assert examples[0].fields["premise"] == 'He said "no",\nand left.'
    assert [e.label for e in examples] == ["entailment", "contradiction"]


def test_another_task(tmp_path: Path) -> None:
    spec = table(tmp_path / "a.csv", [["text", "label"], ["Fine.", "+"], ["Poor.", "BAD"]])
    assert [e.label for e in load_examples(spec, SENTIMENT)] == ["good", "bad"]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({k: [str(r[k]) for r in ROWS] for k in ROWS[0]}), path)
    assert [e.label for e in load_examples(str(path), NLI)] == LABELS


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    cells = {k: [str(r[k]) for r in ROWS] for k in ROWS[0]}
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    table(tmp_path / "a.csv", [list(cells), *map(list, zip(*cells.values(), strict=True))])
    jsonl(tmp_path / "a.jsonl", ROWS)
    loaded = [load_examples(str(tmp_path / f"a.{s}"), NLI) for s in ("jsonl", "csv", "parquet")]
    assert loaded[0].rows == loaded[1].rows == loaded[2].rows
    assert len({one.sha256 for one in loaded}) == 1


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    one = load_examples(jsonl(tmp_path / "a.jsonl", ROWS), NLI).sha256
    other = load_examples(jsonl(tmp_path / "a.jsonl", [*ROWS[:2], ROWS[2] | {"label": 0}]), NLI)
    assert one != other.sha256


# Ids of rows without one


def test_computed_ids_follow_the_content_and_number_copies(tmp_path: Path) -> None:
    first = load_examples(jsonl(tmp_path / "a.jsonl", [ROWS[0], ROWS[1], ROWS[0]]), NLI)
    other = load_examples(jsonl(tmp_path / "b.jsonl", [ROWS[1], ROWS[0]]), NLI)
    assert [e.uid for e in other] == [first[1].uid, first[0].uid]
    assert first[2].uid == f"{first[0].uid}-2"


def test_repeated_ids_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    spec = jsonl(tmp_path / "a.jsonl", [ROWS[0] | {"uid": "u"}, ROWS[1] | {"uid": "u"}])
    text = message(spec)
    assert text.startswith(f"{spec}:2 field 'uid': got id 'u', which line 1 also has")
    assert 'columns: {uid: ""}' in text
    assert len({e.uid for e in load_examples(spec, NLI, columns={"uid": ""})}) == 2


# Samples and specs


def test_a_sample_is_seeded_in_file_order_and_without_repeats(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"hypothesis": f"Number {i}.", "uid": str(i)} for i in range(50)]
    spec = jsonl(tmp_path / "a.jsonl", rows)
    drawn = [int(e.uid) for e in load_examples(f"{spec}?n=20&seed=3", NLI)]
    assert len(drawn) == 20 == len(set(drawn))
    assert drawn == sorted(drawn)
    assert drawn == [int(e.uid) for e in load_examples(f"{spec}?seed=3&n=20", NLI)]
    assert drawn != [int(e.uid) for e in load_examples(f"{spec}?n=20&seed=4", NLI)]
    assert len(load_examples(f"{spec}?n=50", NLI)) == 50
    assert "asks for n=51 rows, there are 50" in message(f"{spec}?n=51")


@given(
    st.sampled_from(["hf:owner/name", "some/file.csv"]),
    st.from_regex(r"[a-z0-9_\[\]:%]+", fullmatch=True),
    st.integers(1, 10**6),
    st.booleans(),
)
def test_query_and_split_come_in_either_order(
    place: str, split: str, n: int, query_first: bool
) -> None:
    parts = (f"?n={n}&seed=2", f"#{split}")
    spec = parse_spec(place + "".join(parts if query_first else reversed(parts)))
    assert (spec.place, spec.split) == (place.removeprefix("hf:"), split)
    assert spec.query == {"n": str(n), "seed": "2"}


def test_a_file_whose_name_contains_marks_is_found(tmp_path: Path) -> None:
    assert len(load_examples(jsonl(tmp_path / "what?#1.jsonl", ROWS), NLI)) == 3


def test_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    monkeypatch.setenv("TUTELAGE_TEST_FOLDER", str(tmp_path))
    monkeypatch.delenv("TUTELAGE_TEST_FILE", raising=False)
    spec = "${TUTELAGE_TEST_FOLDER}/${TUTELAGE_TEST_FILE:-a}.jsonl"
    examples = load_examples(spec, NLI)
    assert len(examples) == 3
    assert examples.source == spec
    text = message("${TUTELAGE_TEST_FILE}.jsonl")
    assert "environment variable TUTELAGE_TEST_FILE is not set" in text


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "is blank, expected a file"),
        ("htp:x#y", "unknown scheme 'htp:'"),
        ("synthetc:nli", "did you mean 'synthetic'?"),
        ("x.csv?m=3", "unknown query key 'm', expected one of n, seed"),
        ("x.csv?people=1", "unknown query key 'people'"),
        ("x.csv?n=1&n=2", "gives 'n' twice"),
        ("x.csv?n=0", "n='0', expected a whole number from 1 up"),
        ("x.csv?n=-4", "expected a whole number"),
        ("x.csv?seed=4", "`seed` needs the size"),
        ("x.csv#a#b", "two splits"),
        ("hf:name", "the split is missing, expected hf:name#SPLIT"),
        ("hf:#train", "the name of the data set is missing"),
        ("synthetic:qa", "expected synthetic:nli?"),
        ("synthetic:nli?people=3", "people=3"),
        ("synthetic:nli?n=many", "n='many'"),
    ],
)
def test_wrong_specs_are_usage_errors(spec: str, expected: str) -> None:
    with pytest.raises(UsageError, match=r".") as caught:
        load_examples(spec, NLI)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_mappings_are_usage_errors(tmp_path: Path) -> None:
    spec = jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(UsageError, match="did you mean 'premise'"):
        load_examples(spec, NLI, columns={"premiss": "a"})
    with pytest.raises(UsageError, match="'label' needs the name of a column"):
        load_examples(spec, NLI, columns={"label": ""})
    with pytest.raises(UsageError, match="no columns to map"):
        load_examples("synthetic:nli?n=3", NLI, columns={"premise": "a"})


def test_generated_examples_through_a_spec() -> None:
    examples = load_examples("synthetic:nli?n=30&seed=5&people=2", NLI)
    assert (len(examples), examples.unlabelled, examples[0].uid) == (30, 0, "synthetic-5-0")
    assert set(examples[0].references) == {"information_extraction", "informed_reasoning"}
    assert examples.sha256 != load_examples("synthetic:nli?n=30&seed=6&people=2", NLI).sha256
    assert "task 'mood' needs text" in message("synthetic:nli?n=3", SENTIMENT)


# The ANLI release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder like an unpacked ANLI release, with rows of our own."""
    row = {"uid": "u1", "context": "A dog runs.", "hypothesis": "It moves.", "label": "e"}
    for number in (1, 2):
        for split in ("train", "dev", "test"):
            rows = [row | {"uid": f"{split}{number}", "reason": "Running is moving."}]
            jsonl(tmp_path / f"R{number}" / f"{split}.jsonl", rows)
    return tmp_path


def test_anli_release_by_split_and_by_file(release: Path) -> None:
    [example] = load_examples(f"{release}#dev_r2", NLI)
    assert (example.uid, example.label, example.reason) == (
        "dev2",
        "entailment",
        "Running is moving.",
    )
    assert example.fields == {"premise": "A dog runs.", "hypothesis": "It moves."}
    [train] = load_examples(str(release / "R1" / "train.jsonl"), NLI)
    assert train.uid == "train1"


def test_anli_inference_tags(tmp_path: Path) -> None:
    row = ROWS[0] | {"inference_tags": ["Basic", "Numerical", "Basic"]}
    assert load_examples(jsonl(tmp_path / "a.jsonl", [row]), NLI)[0].tags == ("Basic", "Numerical")


@pytest.mark.parametrize("split", ["#dev_r3", "#train", "", "#dev_r9"])
def test_anli_release_names_its_splits(release: Path, split: str) -> None:
    assert "dev_r1, dev_r2, test_r1, test_r2, train_r1, train_r2" in message(f"{release}{split}")


# Errors


@pytest.mark.parametrize(
    ("row", "field", "expected"),
    [
        ({"label": "maybe"}, "label", "got 'maybe', expected one of entailment, neutral"),
        ({"label": 3}, "label", "got 3, expected one of"),
        ({"label": ["e", "n"]}, "label", "got ['e', 'n'], expected one of"),
        ({"premise": 5}, "premise", "got 5, expected text"),
        ({"premise": None}, "premise", "got None, expected text"),
        ({"hypothesis": " \n"}, "hypothesis", "not blank"),
        ({"uid": ""}, "uid", "expected an id"),
        ({"uid": None}, "uid", "expected an id"),
        ({"reason": 4}, "reason", "got 4, expected text, a list of texts or nothing"),
        ({"tags": [1]}, "tags", "expected a list of texts"),
        ({"premise": "Cut \ud83d here"}, "premise", r"got '\ud83d', half of a character"),
        ({"reason": ["So.", "a\udc00"]}, "reason", "half of a character"),
        ({"tags": ["\ud800"]}, "tags", "half of a character"),
        ({"uid": "\ud800"}, "uid", "half of a character"),
    ],
)
def test_the_error_of_a_faulty_row_names_file_line_and_field(
    tmp_path: Path, row: dict[str, object], field: str, expected: str
) -> None:
    spec = jsonl(tmp_path / "a.jsonl", [ROWS[0] | {"uid": "first"}, ROWS[1] | row])
    with pytest.raises(DataError) as caught:
        load_examples(spec, NLI)
    assert str(caught.value).startswith(f"{spec}:2 field {field!r}: ")
    assert expected in str(caught.value)
    assert (caught.value.line, caught.value.field) == (2, field)


def test_csv_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('premise,hypothesis,label\n"two\nlines",b,0\n\nc,d,wrong\n', encoding="utf-8")
    assert message(str(path)).startswith(f"{path}:5 field 'label': got 'wrong'")


@pytest.mark.parametrize(
    ("content", "line", "expected"),
    [
        ('{"premise": "a"\n', 1, "is not valid JSON"),
        ("[" * 100_000, 1, "is not valid JSON"),
        ("\n[1, 2]\n", 2, "got a JSON list, expected one object on each line"),
        (
            '{"premise": "a", "label": 1}\n',
            1,
            "no column 'hypothesis', expected one of: premise, label",
        ),
        ('{"premise": "a", "hypothesis": "b"}\n', 1, "map it with columns: {label: …}"),
    ],
)
def test_broken_json_lines(tmp_path: Path, content: str, line: int, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    text = message(str(path))
    assert text.startswith(f"{path}:{line}")
    assert expected in text


@pytest.mark.parametrize(
    ("content", "line", "expected"),
    [
        ("premise,hypothesis,label\na,b,0\na,b,c,0\n", 3, "got 4 cells, expected 3"),
        ('premise,hypothesis,label\na,b,0\n"a,b,0\nc,d,1\n', 3, "is not valid CSV"),
        ("premise,premise,label\na,b,0\n", 1, "has two columns of one name: premise"),
        (
            "premise hypothesis label\na b 0\n",
            None,
            "no column 'premise', expected one of: premise hypothesis",
        ),
        ("premise,hypothesis,label\n", None, "it holds no rows"),
        ("premise,hypothesis,label\na,b,\nc,d,-1\n", None, "none of its 2 rows has a label"),
    ],
)
def test_broken_csv(tmp_path: Path, content: str, line: int | None, expected: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    text = message(str(path))
    assert text.startswith(f"{path}:" + (f"{line}" if line else " "))
    assert expected in text


def test_a_mapped_column_that_a_table_lacks(tmp_path: Path) -> None:
    spec = table(tmp_path / "a.csv", [["premise", "hypothesis", "label"], ["a", "b", "0"]])
    text = message(spec, columns={"reason": "why"})
    assert "no column 'why', expected one of: premise, hypothesis, label; correct columns" in text


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_empty_and_unreadable_files(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"")
    assert message(str(path)) == f"{path}: is empty, expected rows"
    path.write_bytes(bytes(range(256)) * 20)
    assert str(path) in message(str(path))
    path.write_bytes("premise\n\u00e9".encode("latin-1"))
    expected = (
        "is not a valid Parquet" if suffix == "parquet" else ":2: got byte 0xe9, which is not UTF-8"
    )
    assert expected in message(str(path))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_blank_and_zero_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b" \n\n")
    assert "is blank" in message(str(path))
    path.write_bytes(b"a,b\n\0\0")
    assert message(str(path)).startswith(f"{path}:2: got a zero byte")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", ROWS)
    assert "did you mean train.jsonl?" in message(str(tmp_path / "trian.jsonl"))
    assert "no such file: correct the path" in message(str(tmp_path / "zzzz"))
    assert "no folder" in message(str(tmp_path / "nowhere" / "a.csv"))
    assert "expected a file: name one of train.jsonl" in message(str(tmp_path))
    (tmp_path / "a.doc").write_text("x", encoding="utf-8")
    assert "cannot read '.doc', expected one of .jsonl, .ndjson, .json, .csv, .tsv" in message(
        str(tmp_path / "a.doc")
    )
    assert "a file has no splits" in message(f"{tmp_path / 'train.jsonl'}#train")


# The `datasets` package, on local folders


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The package, offline, with its cache in a folder of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets


def other_order(datasets):  # type: ignore[no-untyped-def]
    """A data set whose classes are in another order than the task's, with one unlabelled row."""
    names = ["contradiction", "entailment", "neutral"]
    features = datasets.Features(
        premise=datasets.Value("string"),
        hypothesis=datasets.Value("string"),
        label=datasets.ClassLabel(names=names),
    )
    texts = [f"Sentence {i}." for i in range(4)]
    columns = {"premise": texts, "hypothesis": texts[::-1], "label": [0, 1, 2, -1]}
    return datasets.Dataset.from_dict(columns, features=features)


DECODED = ["contradiction", "entailment", "neutral"]


def test_saved_data_set_with_classes_in_another_order(tmp_path: Path, hub) -> None:  # type: ignore[no-untyped-def]
    saved = tmp_path / "saved"
    hub.DatasetDict(train=other_order(hub)).save_to_disk(saved)
    examples = load_examples(f"hf:{saved}#train", NLI)
    assert [e.label for e in examples] == DECODED
    assert examples.unlabelled == 1
    assert "unknown split 'test', expected one of train" in message(f"hf:{saved}#test")
    assert "the split is missing" in message(f"hf:{saved}")
    assert len(load_examples(f"hf:{saved}#train?n=2", NLI)) == 2


def test_single_saved_data_set_needs_no_split(tmp_path: Path, hub) -> None:  # type: ignore[no-untyped-def]
    other_order(hub).save_to_disk(tmp_path / "one")
    assert [e.label for e in load_examples(f"hf:{tmp_path / 'one'}", NLI)] == DECODED


def test_parquet_keeps_the_data_sets_own_classes(tmp_path: Path, hub) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a.parquet"
    other_order(hub).to_parquet(path)
    assert [e.label for e in load_examples(str(path), NLI)] == DECODED


def test_folder_of_files_through_load_dataset(tmp_path: Path, hub) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "files"
    for split in ("train", "test"):
        table(
            (folder / f"{split}.csv") if folder.mkdir(exist_ok=True) is None else folder,
            [["premise", "hypothesis", "label"], ["A dog.", f"Some {split}.", "2"]],
        )
    [example] = load_examples(f"hf:{folder}#test", NLI)
    assert (example.label, example.fields["hypothesis"]) == ("contradiction", "Some test.")
    assert "cannot be loaded" in message(f"hf:{folder}#dev")
    assert "no column 'text'" in message(f"hf:{folder}#test", SENTIMENT)


def test_faulty_rows_of_a_data_set_are_named(tmp_path: Path, hub) -> None:  # type: ignore[no-untyped-def]
    rows = {"premise": ["a", " "], "hypothesis": ["b", "c"], "label": ["e", "n"]}
    hub.Dataset.from_dict(rows).save_to_disk(tmp_path / "one")
    text = message(f"hf:{tmp_path / 'one'}")
    assert text == (
        f"hf:{tmp_path / 'one'} field 'premise': row 2: got ' ', expected text that is not blank"
    )


def test_a_missing_data_set(hub) -> None:  # type: ignore[no-untyped-def]
    assert "cannot be loaded" in message("hf:tutelage-tests/no-such-data#train")


@pytest.mark.parametrize(
    ("package", "spec"), [("datasets", "hf:any#train"), ("pyarrow", "a.parquet")]
)
def test_missing_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, spec: str
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*tutelage\[train\]"):
        load_examples(spec, NLI)


def test_a_stream_gives_the_loaded_examples_and_keeps_none(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"premise": f"p {i}", "hypothesis": "h", "label": -1 if i % 5 == 4 else i % 3}
        for i in range(50)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_examples(str(path), NLI)
    stream = stream_examples(str(path), NLI)
    assert (stream.total, stream.unlabelled) == (40, 10) == (len(loaded), loaded.unlabelled)
    assert list(stream.open()) == list(loaded) == list(stream.open())
    assert list(stream_examples("synthetic:nli?n=9", NLI).open()) == list(
        load_examples("synthetic:nli?n=9", NLI)
    )


def test_a_stream_reports_a_faulty_row_before_any_request(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = {"premise": "p", "hypothesis": "h", "label": "neutral"}
    path.write_text(
        json.dumps(good) + "\n" + json.dumps({**good, "label": "maybe"}) + "\n", encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"rows.jsonl:2 field 'label'"):
        stream_examples(str(path), NLI)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError):
        stream_examples(str(path), NLI)
