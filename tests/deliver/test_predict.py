"""A checkpoint predicts as it was evaluated, and every row of a file gets its row."""

from __future__ import annotations

import csv
import gc
import json
import os
import shutil
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from forked import run_command
from tutelage import Student
from tutelage.cli.main import app
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError, TutelageError, UsageError
from tutelage.core.storage import read_jsonl
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction, Rationale
from tutelage.data import row_ids, row_parser
from tutelage.data.source import in_blocks
from tutelage.deliver import predict as predicting
from tutelage.deliver.predict import write_predictions
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import ScoringJob, TrainingJob, run_job
from tutelage.student.model.scratch import tokenizer_for

TASK = Task("films", ("text",), ("good", "bad"), verbalizers={"good": "fine", "bad": "poor"})
WORDS = ("joyful", "tender", "clever", "dull", "noisy", "shallow")


def rows(count: int, start: int = 0) -> list[Example]:
    found = []
    for i in range(start, start + count):
        word = WORDS[i % 6]
        text = f"the film number {i} was {word} " + f"and went on and on for part {i % 9} " * (
            i % 4
        )
        found.append(Example(f"r{i}", {"text": text}, "good" if i % 6 < 3 else "bad"))
    return found


TRAIN, DEV, TEST = rows(48), rows(12, 100), rows(40, 200)


def decoder(folder: Path, tokenizer: Path) -> str:
    """A tiny decoder-only model with random weights, saved."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    words.pad_token = words.eos_token
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=words.eos_token_id,
        eos_token_id=words.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def trained(folder: Path, kind: str, **changes: Any) -> ScoringJob:
    """A finished training with other limits than the defaults, and the scoring of its test rows."""
    settings = TrainSettings(
        **{
            "objective": "label_then_rationale",
            "learning_rate": 5e-3,
            "epochs": 2,
            "batch_size": 12,
            "warmup_steps": 1,
            "max_source_tokens": 14,
            "max_rationale_tokens": 6,
            "tokens_per_micro_batch": 200,
            "precision": "fp32",
            **changes,
        }
    )
    reasons = [Rationale(e.uid, "human", f"{e.fields['text'][:18]} it was", "ok") for e in TRAIN]
    learnt = build_training_examples(TRAIN, TASK, reasons, settings.objective)
    words = tokenizer_for(learnt, folder / "tokenizer")
    spec = "scratch:t5-tiny" if kind == "t5" else decoder(folder / "base", words)
    job = TrainingJob(
        spec, words if kind == "t5" else None, learnt, DEV, TASK, settings, folder / "seed-0"
    )
    run_job(job)
    return ScoringJob(job, TEST, folder / "seed-0" / "test.jsonl")


def predicted(model: Path, data: Path, **options: Any) -> list[Prediction]:
    """What the command writes of a file."""
    output = data.with_name("predicted.jsonl")
    write_predictions(model, str(data), output=output, overwrite=True, **options)
    return [Prediction(**row | {"gold": row["gold"] or ""}) for row in read_jsonl(output)]


def as_file(path: Path, examples: list[Example], labelled: bool = True) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            row = {"uid": example.uid, **example.fields}
            file.write(json.dumps(row | ({"label": example.label} if labelled else {})) + "\n")
    return path


@pytest.mark.parametrize("kind", ["t5", "llama"])
@pytest.mark.parametrize(
    "objective", ["label", "label_then_rationale", "rationale_then_label", "multitask"]
)
def test_predicting_a_runs_own_test_file_gives_its_own_predictions(
    tmp_path: Path, kind: str, objective: str
) -> None:
    scoring = trained(tmp_path, kind, objective=objective)
    own = run_job(scoring)
    assert any(p.truncated for p in own)  # the limits matter
    output = tmp_path / "predictions.jsonl"
    model = scoring.trained.folder / "model"
    counts = write_predictions(model, str(as_file(tmp_path / "t.jsonl", TEST)), output=output)
    # The batches are the same, so they are equal bit by bit.
    assert output.read_bytes() == (tmp_path / "seed-0" / "test.jsonl").read_bytes()
    assert (counts.rows, counts.labelled) == (40, 40)
    assert counts.right == sum(p.label == p.gold for p in own)
    assert counts.ci95 is not None and counts.ci95[0] < (counts.accuracy or 0) <= counts.ci95[1]
    # In other batches they are equal up to rounding.
    student = Student.load(model)
    alone = [p for row in TEST[:9] for p in student.predict([row])]
    for one, other in zip(alone, own, strict=False):
        if one.rationale == other.rationale:
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_bf16_is_read_as_it_was_evaluated(tmp_path: Path) -> None:
    scoring = trained(tmp_path, "llama", objective="label", precision="bf16")
    own = run_job(scoring)
    model = scoring.trained.folder / "model"
    assert predicted(model, as_file(tmp_path / "t.jsonl", TEST)) == own


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return trained(folder, "t5", objective="label").trained.folder / "model"


def test_a_checkpoint_knows_itself(model: Path) -> None:
    record = Student.load(model).record
    assert record.task == TASK and record.objective == "label"
    assert record.limits == {
        "max_source_tokens": 14,
        "max_rationale_tokens": 6,
        "tokens_per_micro_batch": 200,
    }
    assert (record.precision, record.fast, record.threads) == ("fp32", "auto", 1)
    assert set(record.data_sha256) == {"training", "dev"}
    assert "model.safetensors" in (record.files_sha256 or {})
    assert record.versions["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_or_missing_file_of_a_checkpoint_is_refused(
    model: Path, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(StudentError, match=f"{name}: is not the file that"):
        Student.load(copy)
    (copy / name).unlink()
    with pytest.raises(StudentError, match=f"{name}: is missing"):
        Student.load(copy)
    shutil.rmtree(copy)
    with pytest.raises(StudentError, match="holds no model"):
        Student.load(copy)


def test_every_row_of_the_input_has_a_row_of_the_output(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    lines = [
        json.dumps({"text": "the film was joyful"}),
        "{broken",
        json.dumps({"text": "  "}),
        json.dumps({"text": "the film was dull", "label": "poor"}),
        json.dumps({"words": "no text"}),
        json.dumps({"text": "the film was dull", "label": None}),
        json.dumps({"text": "the film was odd", "label": "maybe"}),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    written: dict[str, list[dict[str, Any]]] = {}
    for suffix in ("jsonl", "csv", "parquet"):
        output = tmp_path / f"out.{suffix}"
        done = CliRunner().invoke(app, ["predict", str(model), str(path), "--output", str(output)])
        assert done.exit_code == 0, (done.output, done.exception)
        assert "7 rows" in done.stdout and "of 1 labelled rows right" in done.stdout
        assert "4 rows could not be read" in done.stderr
        if suffix == "jsonl":
            written[suffix] = list(read_jsonl(output))
        elif suffix == "csv":
            with output.open(encoding="utf-8", newline="") as file:
                written[suffix] = list(csv.DictReader(file))
        else:
            pq = pytest.importorskip("pyarrow.parquet")
            written[suffix] = pq.read_table(output).to_pylist()
    for found in written.values():
        assert len(found) == 7
        assert [bool(row.get("error")) for row in found] == [
            False,
            True,
            True,
            False,
            True,
            False,
            True,
        ]
        assert "not blank" in found[2]["error"] and "no column 'text'" in found[4]["error"]
        assert "got 'maybe'" in found[6]["error"] and "new.jsonl:2" in found[1]["error"]
        assert found[3]["gold"] == "bad" and not found[0]["gold"]
    for exact, other in zip(written["jsonl"], written["parquet"], strict=True):
        if "error" not in exact:
            assert exact["probabilities"]["good"] == other["p(good)"]
            assert exact["label"] == other["label"]


def test_an_interrupted_prediction_is_resumed_to_the_same_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 7)
    data = str(as_file(tmp_path / "t.jsonl", TEST + TEST[:0]))
    whole = tmp_path / "whole.jsonl"
    write_predictions(model, data, output=whole)
    output = tmp_path / "out.jsonl"
    score, calls = Student.score, 0

    def dying(student: Student, chunk: list[Example], **options: Any) -> list[Prediction]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return score(student, chunk, **options)

    monkeypatch.setattr(Student, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, data, output=output)
    part = tmp_path / ".out.jsonl.part"
    assert not output.exists() and part.exists()
    with part.open("ab") as file:
        file.write(b'{"uid": "half a li')  # what a kill leaves
    other = str(as_file(tmp_path / "other.jsonl", TEST[:3]))
    with pytest.raises(UsageError, match="of another model, input or option"):
        write_predictions(model, other, output=output, resume=True)
    counts = write_predictions(model, data, output=output, resume=True)
    assert calls == 3 + 4  # two of the six chunks were done
    assert counts.rows == 40 and output.read_bytes() == whole.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {
        "t.jsonl", "other.jsonl", "whole.jsonl", "out.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("copies", [False, True])
def test_a_resumed_call_counts_what_was_done(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, copies: bool
) -> None:
    """Right, wrong and unreadable rows; without parsing those that are done, unless they have
    copies, whose ids are numbered."""
    monkeypatch.setattr(predicting, "CHUNK", 7)
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    rows = [("" if n in (3, 17) else f"film {n}", "good" if n % 3 else "bad") for n in range(30)]
    rows += rows[:1] * copies
    path = tmp_path / f"t.{kind}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind == "csv":
            csv.writer(file).writerows([("text", "label"), *rows])
        else:
            file.writelines(json.dumps({"text": t, "label": v}) + "\n" for t, v in rows)
    parsed = 0

    def counted(source_rows: Any, size: int) -> Any:
        nonlocal parsed
        for places, block in in_blocks(source_rows, size):
            parsed += len(block)
            yield places, block

    monkeypatch.setattr(row_parser, "in_blocks", counted)
    whole = write_predictions(model, str(path), output=tmp_path / "whole.jsonl")

    def stopped(done: int) -> None:
        if done == 21:
            raise KeyboardInterrupt

    output = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, str(path), output=output, on_progress=stopped)
    parsed = 0
    resumed = write_predictions(model, str(path), output=output, resume=True)
    assert resumed == whole and (whole.unreadable, whole.rows) == (2, 30 + copies)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert parsed == len(rows) + (len(rows) if copies else len(rows) - 21)


def test_what_was_written_of_a_changed_file_is_not_continued(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 7)
    path, output = as_file(tmp_path / "t.jsonl", TEST), tmp_path / "out.jsonl"

    def full(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, str(path), output=output, on_progress=full)
    as_file(path, TEST[1:])
    with pytest.raises(UsageError, match="of another model, input or option"):
        write_predictions(model, str(path), output=output, resume=True)


def uniform(student: Student, chunk: list[Example], **_: Any) -> list[Prediction]:
    """What a student of no opinion predicts."""
    return [Prediction(e.uid, "good", {"good": 0.5, "bad": 0.5}, e.label) for e in chunk]


@pytest.mark.parametrize("named", [True, False])
def test_memory_does_not_grow_with_the_rows(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 100)
    monkeypatch.setattr(row_ids, "_HELD", 200)
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    peaks = []
    for count in (500, 500, 2500):  # the first one imports and compiles
        path = tmp_path / f"{count}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for i in range(count):
                uid = {"uid": f"M-{i}"} if named else {}
                file.write(json.dumps({"text": f"some text {i}", **uid}) + "\n")
        gc.collect()
        tracemalloc.start()
        counts = write_predictions(model, str(path), output=tmp_path / "o.jsonl", overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert counts.rows == count and counts.unreadable == 0
    # The ids of 2,000 more rows would take 200 KB.
    assert peaks[2] - peaks[1] < 50_000


def stopped(done: int) -> None:
    """Progress that a user interrupts."""
    raise KeyboardInterrupt


def test_copies_of_a_row_and_of_an_id_are_known_across_chunks(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 3)
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    path, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows: list[dict[str, str]] = [{"text": text} for text in "abcabca"]
    rows += [{"text": "d", "uid": uid} for uid in ("x", "y", "x")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_predictions(model, str(path), output=output)
    found = list(read_jsonl(output))
    a, b, c = (found[i]["uid"] for i in range(3))
    copies = [a, b, c, f"{a}-2", f"{b}-2", f"{c}-2", f"{a}-3"]
    assert [row.get("uid") for row in found] == [*copies, "x", "y", None]
    assert "got id 'x', which line 8 also has" in found[9]["error"]

    again = tmp_path / "again.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, str(path), output=again, on_progress=stopped)
    write_predictions(model, str(path), output=again, resume=True)
    assert again.read_bytes() == output.read_bytes()


def test_parts_of_a_changed_folder_are_not_continued(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 3)
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    folder, output = tmp_path / "data", tmp_path / "out.jsonl"
    folder.mkdir()
    for part in range(2):
        as_file(folder / f"new-{part}-of-2.jsonl", rows(5, part))

    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, f"{folder}#new", output=output, on_progress=stopped)
    as_file(folder / "new-1-of-2.jsonl", rows(5, 2))
    with pytest.raises(UsageError, match="of another model, input or option"):
        write_predictions(model, f"{folder}#new", output=output, resume=True)


def test_an_output_is_neither_the_input_nor_another_ones(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    path = as_file(tmp_path / "rows.jsonl", TEST[:3])
    before, link = path.read_bytes(), tmp_path / "link.jsonl"
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(UsageError, match="is the input, which would be lost"):
            write_predictions(model, str(path), output=output, overwrite=True)
    assert path.read_bytes() == before

    output = tmp_path / "out.jsonl"

    def second(done: int) -> None:
        with pytest.raises(UsageError, match="another process is writing it"):
            write_predictions(model, str(path), output=output, overwrite=True)

    assert write_predictions(model, str(path), output=output, on_progress=second).rows == 3
    assert len(list(read_jsonl(output))) == 3
    assert {p.name for p in tmp_path.iterdir()} == {"rows.jsonl", "link.jsonl", "out.jsonl"}


def test_rows_of_a_pipe_that_cannot_be_read_are_the_same_in_each_call(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 2)
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    pipe, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    os.mkfifo(pipe)

    def call(**options: Any) -> None:
        content = '{"text": "a"}\n{broken\n{"text": "b"}\n'
        threading.Thread(target=pipe.write_text, args=(content,), daemon=True).start()
        write_predictions(model, str(pipe), output=output, **options)

    with pytest.raises(KeyboardInterrupt):
        call(on_progress=stopped)
    call(resume=True)
    errors = [row.get("error", "") for row in read_jsonl(output)]
    assert errors[1].startswith("input.jsonl:2: is not valid JSON") and not errors[0] + errors[2]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows"])
def test_rows_from_a_pipe(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Student, "prepare", lambda student: None)
    monkeypatch.setattr(Student, "score", uniform)
    pipe, output = tmp_path / name, tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    content = "text\na\nb\na\n" if name == "rows.csv" else '{"text": "a"}\n{"text": "b"}\n' * 2
    writer = threading.Thread(target=pipe.write_text, args=(content,), daemon=True)
    writer.start()
    counts = write_predictions(model, str(pipe), output=output)
    writer.join(timeout=30)
    assert counts.rows == (3 if name == "rows.csv" else 4) and counts.unreadable == 0


def test_several_processes_write_the_same_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 7)
    path = as_file(tmp_path / "t.jsonl", TEST)
    with path.open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    outputs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for workers, output in enumerate(outputs, 1):
        counts = write_predictions(model, str(path), output=output, workers=workers)
        assert (counts.rows, counts.unreadable) == (41, 1)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_outputs_that_are_not_plain_files(model: Path, tmp_path: Path) -> None:
    data = str(as_file(tmp_path / "t.jsonl", TEST[:3]))
    real = tmp_path / "real.jsonl"
    link = tmp_path / "link.jsonl"
    link.symlink_to(real)
    write_predictions(model, data, output=link)
    assert link.is_symlink() and len(list(read_jsonl(real))) == 3
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_predictions(model, data, output=pipe)
    reader.join(timeout=30)
    assert got[0] == real.read_bytes() and pipe.is_fifo()
    refused: list[tuple[Path, str]] = [
        (tmp_path, "is a directory"),
        (tmp_path / "a.txt", "expected one of .jsonl, .csv, .parquet"),
        (tmp_path / "no" / "a.csv", "no folder"),
        (real, "exists already: name another file, or add --overwrite"),
    ]
    for path, problem in refused:
        with pytest.raises(UsageError, match=problem):
            write_predictions(model, data, output=path)
    before = real.stat().st_mode
    real.chmod(0o640)
    write_predictions(model, data, output=real, overwrite=True)
    assert real.stat().st_mode & 0o777 == 0o640 != before


def test_standard_input_and_output(model: Path, tmp_path: Path) -> None:
    path = as_file(tmp_path / "t.jsonl", TEST[:5], labelled=False)
    for content in (path.read_text(encoding="utf-8"), "text\nthe film was dull\na, b\n"):
        words = ("predict", model, "-", "--output", "-")
        done = run_command(*words, cwd=tmp_path, environment=os.environ, given=content)
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(found) == (5 if content.startswith("{") else 2)
    assert {p.name for p in tmp_path.iterdir()} == {"t.jsonl"}


def test_the_student_from_python(model: Path) -> None:
    student = Student.load(str(model.parent))
    assert "text → good, bad" in repr(student)
    texts = [e.fields["text"] for e in TEST[:6]]
    expected = [p.label for p in student.predict(TEST[:6])]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": texts, "other": range(6)})
    inputs: list[Any] = [texts, [{"text": text} for text in texts], frame]
    datasets = pytest.importorskip("datasets")
    inputs.append(datasets.Dataset.from_dict({"text": texts}))
    for given in inputs:
        found = student.predict(given)
        assert [p.label for p in found] == expected
    assert [p.label for p in student.predict(texts[0])] == expected[:1]
    assert list(found.to_pandas()["label"]) == expected
    assert repr(found).startswith("<6 predictions: ")
    assert all(isinstance(p.rationale, str) for p in student.predict(texts[:2], explain=True))
    with pytest.raises(UsageError, match="got a row of type int"):
        student.predict([3])
    with pytest.raises(TutelageError, match="no column 'text'"):
        student.predict([{"words": "x"}])


def test_other_columns_and_separators(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Comment;Mood\nthe film was dull;bad\nfine;good\n", encoding="utf-8")
    layout = LayoutSettings(columns={"text": "Comment", "label": "Mood"})
    assert [p.gold for p in predicted(model, path, layout=layout)] == ["bad", "good"]


def test_a_run_gives_the_model_that_it_recommends(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    place = run / "arms" / "labels" / "lr-0.005_w-1" / "seed-0"
    shutil.copytree(model, place / "model")
    results = {"recommended": {"folder": "arms/labels/lr-0.005_w-1/seed-0/model"}}
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert Student.load(run).folder == place / "model" == Student.load(place).folder
    (run / "recipe.yaml").write_text(
        "name: x\ntask: {fields: [text], labels: [good, bad]}\nteacher: scripted\n"
        "data: {train: a.csv, dev: 0.1, test: 0.2, columns: {text: Comment}, delimiter: ';'}\n"
        "arms: [{name: labels}, {name: r, strategy: informed_reasoning}]\n",
        encoding="utf-8",
    )
    student = Student.load(run)
    assert (student.layout.columns, student.layout.delimiter) == ({"text": "Comment"}, ";")
    assert student.predict([{"Comment": "a dull film"}])[0].label in TASK.labels
    path = tmp_path / "more.csv"
    path.write_text("Comment;x\na dull film;1\n", encoding="utf-8")
    assert len(predicted(run, path)) == 1
    # What is said of a new file leaves the rest as the run read its own.
    changes = LayoutSettings(columns={"uid": "x"})
    assert [p.uid for p in predicted(run, path, changes=changes)] == ["1"]
    (run / "results.json").write_text(json.dumps({"recommended": None}), encoding="utf-8")
    with pytest.raises(TutelageError, match="no model that it recommends: name one"):
        Student.load(run)
