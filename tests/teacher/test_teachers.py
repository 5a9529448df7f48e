import json

import pytest

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.teacher.annotate import annotate
from tutelage.teacher.registry import _SCHEMES, is_looked_up, open_teacher

FIELDS = {"premise": "p", "hypothesis": "h"}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return write(
        tmp_path / "answers.jsonl",
        {"uid": "a", "rationales": {"cot/big-1": " Since A. ", "other": "no"}},
        {"uid": "b", "rationales": {"cot/big-1": None}},
        {"uid": "c"},
        {"uid": 4, "rationales": {"cot/big-1": "Since four."}},
    )


def recorded(model, examples, base=None, strategy="recorded"):
    return annotate(
        examples, strategy=strategy, teacher=TeacherSettings(model=model), task=NLI, base=base
    )


def test_recorded_answers_by_uid(file):
    examples = [Example(uid, FIELDS, "neutral") for uid in ("4", "c", "b", "a", "z")]
    annotation = recorded(f"recorded:{file}#cot/big-1", examples)
    assert [(r.uid, r.status, r.text) for r in annotation.rationales] == [
        ("4", "ok", "Since four."),
        ("c", "empty", ""),
        ("b", "empty", ""),
        ("a", "ok", "Since A."),
        ("z", "empty", ""),
    ]
    assert annotation.requests == 0


def test_a_recorded_label_is_the_teachers_and_is_kept_apart_from_the_text(tmp_path):
    text = {"rationales": {"cot/big-1": "Since.", "other": "no"}}
    file = write(
        tmp_path / "f",
        {"uid": "a", **text, "teacher_labels": {"big-1": "Neutral"}},
        {"uid": "b", **text, "teacher_labels": {"big-1": "neutral", "cot/big-1": "entailment"}},
        {"uid": "c", "teacher_labels": {"big-1": "contradiction"}},
        {"uid": "d", **text, "teacher_labels": {"big-1": "none of them", "other": "neutral"}},
    )
    examples = [Example(uid, FIELDS, "neutral") for uid in "abcd"]
    annotation = recorded(f"recorded:{file}#cot/big-1", examples)
    assert [(r.label, r.status, r.text) for r in annotation.rationales] == [
        ("neutral", "ok", "Since."),
        ("entailment", "ok", "Since."),
        ("contradiction", "empty", ""),
        (None, "ok", "Since."),
    ]
    other = recorded(f"recorded:{file}#other", examples).rationales
    assert [r.label for r in other] == [None, None, None, "neutral"]


def test_equal_prompts_may_have_different_recorded_answers(tmp_path):
    file = write(
        tmp_path / "f",
        *({"uid": u, "rationales": {"k": f"Who: {u}"}} for u in ("a", "b")),
    )
    examples = [Example(uid, FIELDS, "neutral") for uid in ("a", "b")]
    annotation = recorded(f"recorded:{file}#k", examples, strategy="information_extraction")
    assert [r.text for r in annotation.rationales] == ["Who: a", "Who: b"]


def test_recorded_paths_expand_and_are_resolved_against_the_base(file, monkeypatch):
    monkeypatch.delenv("UNSET_ONE", raising=False)
    monkeypatch.setenv("ANSWERS", str(file.parent))
    example = [Example("a", FIELDS, "neutral")]
    for path, base in (
        ("answers.jsonl", file.parent),
        ("${ANSWERS:-nowhere}/answers.jsonl", None),
        ("${UNSET_ONE:-.}/answers.jsonl", file.parent),
    ):
        assert recorded(f"recorded:{path}#other", example, base).rationales[0].text == "no"


@pytest.mark.parametrize(
    ("key", "said"), [("#cot", "cot/big-1, other"), ("", "FILE#KEY"), ("#", "FILE#KEY")]
)
def test_a_wrong_key_lists_the_keys(file, key, said):
    with pytest.raises(UsageError, match=said):
        open_teacher(TeacherSettings(model=f"recorded:{file}{key}"))


def test_recorded_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="could not be read"):
        open_teacher(TeacherSettings(model=f"recorded:{tmp_path}/missing#k"))
    with pytest.raises(UsageError, match="could not be read"):
        open_teacher(TeacherSettings(model=f"recorded:{tmp_path}#k"))
    (tmp_path / "junk").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        open_teacher(TeacherSettings(model=f"recorded:{tmp_path}/junk#k"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "`uid`"),
        ('{"uid": "a", "rationales": "x"}', "texts by name"),
        ('{"uid": "a", "teacher_labels": "x"}', "texts by name"),
        (r'{"uid": "b", "rationales": {"k": "Since \ud800."}}', "after 'Since '"),
    ],
)
def test_a_damaged_line_is_reported(tmp_path, line, said):
    path = tmp_path / "f.jsonl"
    path.write_text('{"uid": "a", "rationales": {"k": "x"}}\n' + line + "\n")
    with pytest.raises(DataError, match=said) as caught:
        open_teacher(TeacherSettings(model=f"recorded:{path}#k"))
    assert caught.value.line == 2


def test_two_texts_under_one_uid_are_refused(tmp_path):
    row = {"uid": "a", "rationales": {"k": "x"}}
    open_teacher(TeacherSettings(model=f"recorded:{write(tmp_path / 'f', row, row)}#k"))
    other = {"uid": "a", "rationales": {"k": "y"}}
    with pytest.raises(DataError, match="further up"):
        open_teacher(TeacherSettings(model=f"recorded:{write(tmp_path / 'g', row, other)}#k"))


def test_teachers_that_look_answers_up_are_known_without_opening_them(file, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    gguf = file.with_suffix(".gguf")
    gguf.write_bytes(b"GGUF")
    models = {
        "openai": "openai:m",
        "anthropic": "anthropic:m",
        "gemini": "gemini:m",
        "gguf": f"gguf:{gguf}",
        "recorded": f"recorded:{file}#other",
        "scripted": "scripted",
    }
    assert {*models, "package"} == {*_SCHEMES}  # a package's file is opened like a gguf file
    for model in models.values():
        settings = TeacherSettings(model=model, max_tokens=5)
        assert is_looked_up(settings) != open_teacher(settings).paid, model


def test_scripted_answers_from_the_example():
    examples = [
        Example("a", FIELDS, "neutral", references={"informed_reasoning": "since"}),
        Example("b", FIELDS, "neutral", references={"informed_reasoning": "as"}),
        *(Example(f"c{i}", FIELDS, "neutral") for i in range(9)),
    ]
    annotation = annotate(
        examples,
        strategy="informed_reasoning",
        teacher=TeacherSettings(model="scripted"),
        task=NLI,
    )
    assert [r.text for r in annotation.rationales[:2]] == ["since", "as"]
    assert annotation.counts["failed"] == 9
    assert "informed_reasoning" in annotation.rationales[2].detail


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gpt-4o", "'openai:gpt-4o'"),
        ("opneai:gpt-4o", "'openai:MODEL'"),
        ("openai:", "'openai:MODEL'"),
        ("openai", "'openai:MODEL'"),
        ("scripted:x", "'scripted'"),
        ("", "model: got ''"),
        ("gguf:/nowhere/model.gguf", "cannot be read"),
        ("package:llm_smollm3/x.gguf", "not installed"),
        ("package:json", "PACKAGE/FILE"),
        ("package:json/x.gguf", "has no file 'x.gguf'"),
        ("package:os/x.gguf", "not installed"),
    ],
)
def test_a_wrong_model_is_reported_in_one_line(model, said):
    with pytest.raises(UsageError) as caught:
        open_teacher(TeacherSettings(model=model))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_a_model(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"hello")
    with pytest.raises(UsageError, match="is not a GGUF"):
        open_teacher(TeacherSettings(model="gguf:x.gguf"), tmp_path)


def test_all_wrong_settings_are_reported_at_once():
    with pytest.raises(UsageError) as caught:
        TeacherSettings(model="scripted", temperature=-1, top_p=2, concurrency=0, timeout_s=0)
    for name in ("temperature", "top_p", "concurrency", "timeout_s"):
        assert name in str(caught.value)
