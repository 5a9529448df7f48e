"""An export answers as the student that was evaluated, or it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from students import ROWS, TASK, Made, checkpoint, tokenizer

from tutelage import Student
from tutelage.config.export_settings import ExportSettings
from tutelage.core.errors import StudentError, UsageError
from tutelage.core.export_record import read_export_record, write_export_record
from tutelage.deliver.exporter import export_model, gate
from tutelage.deliver.label_engine import GRAPH
from tutelage.deliver.parity import ParityError, broken, check_scores, long_rows
from tutelage.deliver.rationale_files import TOLERANCE
from tutelage.deliver.score_matrix import score_matrix
from tutelage.evaluation.temperature import fit_temperature
from tutelage.student.encoding.prompts import label_ids
from tutelage.student.inference.label_graph import build_graph, save_graph
from tutelage.student.model.loading import load_student

FAMILIES = ("t5", "t5-v1.1", "mt5", "bart", "llama", "gpt2")


def plainly(model: Path, examples: list[Any]) -> np.ndarray:
    """Summed log-probabilities by transformers alone, a row and a label at a time."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    seq2seq = AutoConfig.from_pretrained(model).is_encoder_decoder
    kind = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    plain = kind.from_pretrained(model).eval()
    student = Student.load(model)
    loaded = student.loaded
    from tutelage.student.encoding.prompts import encode_prompts

    sources = encode_prompts(loaded, [TASK.source(e.fields) for e in examples], "answer", 24)
    found = []
    for source in sources:
        row = []
        for ids in label_ids(loaded, TASK):
            with torch.no_grad():
                if seq2seq:
                    logits = plain(
                        input_ids=torch.tensor([source.ids]),
                        decoder_input_ids=torch.tensor([[loaded.decoder_start_id, *ids[:-1]]]),
                    ).logits[0]
                else:
                    logits = plain(input_ids=torch.tensor([[*source.ids, *ids[:-1]]])).logits[0]
                    logits = logits[len(source.ids) - 1 :]
            chosen = torch.log_softmax(logits.float(), -1)
            row.append(sum(float(chosen[t, token]) for t, token in enumerate(ids)))
        found.append(row)
    return np.array(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_exported_and_scores_as_plain_transformers(
    made: Callable[[str], Made], family: str
) -> None:
    export = made(family).export
    assert export.record.label_engine == "openvino" and export.record.precision == "f32"
    assert export.parity.made_up > 0 and export.parity.agreement == 1.0
    model = Student.load(export.folder).loaded
    some = [*ROWS[:6], *long_rows(ROWS, TASK.fields, 24)]
    found, wanted = model.scores(model.encode(some)), plainly(made(family).checkpoint, some)
    assert np.abs(found - wanted).max() < 1e-3
    assert wanted.std(axis=1).mean() > 0.2  # the labels' scores do differ


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_writes_its_rationales_as_the_checkpoint_does(
    made: Callable[[str], Made], family: str
) -> None:
    export = made(family).export
    assert export.record.rationale_engine == "ctranslate2", export.notes
    before = Student.load(made(family).checkpoint).predict(ROWS[:8], explain=True)
    after = Student.load(export.folder).predict(ROWS[:8], explain=True)
    assert [p.rationale for p in after] == [p.rationale for p in before]


def test_an_int8_export_is_a_quarter_of_the_size_or_float_is_exported_and_said(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    model = made("t5").checkpoint
    settings = ExportSettings(precision="int8", rationales="none")
    export = export_model(model, tmp_path / "small", settings, dev=ROWS, test=ROWS)
    # Random weights are far from what rounding leaves alone: this gate refuses int8.
    if export.record.precision == "f32":
        assert any("openvino in int8 was not exported" in note for note in export.notes)
    student = Student.load(model).loaded
    save_graph(build_graph(student, label_ids(student, TASK)), tmp_path / "g/m.xml", int8=True)
    small = (tmp_path / "g/m.bin").stat().st_size
    assert small < 0.5 * (made("t5").export.folder / GRAPH).with_suffix(".bin").stat().st_size


def test_int8_rationales_are_a_third_of_the_size_or_f32_is_exported_and_said(
    made: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plain = made("t5").checkpoint, made("t5").export
    settings = ExportSettings(rationale_precision="int8", usd_per_hour=3.6)
    monkeypatch.setitem(TOLERANCE, "int8", 9.0)
    small = export_model(model, tmp_path / "small", settings, dev=ROWS, test=ROWS)
    assert small.record.rationale_engine == "ctranslate2" and small.notes == ()
    assert "CTranslate2 in int8: " in (small.record.parity or {})["rationales"]
    size = [(e.folder / "rationales" / "model.bin").stat().st_size for e in (small, plain)]
    assert size[0] < 0.45 * size[1]
    written = Student.load(small.folder).predict(ROWS[:3], explain=True)
    assert all(isinstance(p.rationale, str) for p in written)
    # At 3.6 dollars an hour a second is a tenth of a cent.
    seconds = (small.record.parity or {})["seconds_for_1000"]
    card = (small.folder / "README.md").read_text(encoding="utf-8")
    assert f"{seconds:.2f} s on that machine, {seconds / 1000:.6f} US dollars" in card

    monkeypatch.setitem(TOLERANCE, "int8", 1e-9)
    settings = settings.model_copy(update={"engine": "transformers"})
    large = export_model(model, tmp_path / "large", settings, dev=ROWS, test=ROWS)
    assert "CTranslate2 in f32: " in (large.record.parity or {})["rationales"]
    assert any("Rationales in int8 were not exported: " in note for note in large.notes)
    assert (large.folder / "rationales" / "model.bin").stat().st_size == size[1]


def test_what_openvino_does_not_know_is_exported_with_its_checkpoint(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "t5", "rationale_then_label")
    settings = ExportSettings(rationales="transformers")
    export = export_model(model, tmp_path / "export", settings, dev=ROWS[:9], test=ROWS[:9])
    assert export.record.label_engine == "transformers"
    assert any("rationale before the label" in note for note in export.notes)
    after = Student.load(export.folder).predict(ROWS[:4], explain=True)
    before = Student.load(model).predict(ROWS[:4], explain=True)
    assert [(p.label, p.rationale) for p in after] == [(p.label, p.rationale) for p in before]


# -- damaged exports ----------------------------------------------------------------------------


def _weights(folder: Path, model: Path) -> None:
    file = (folder / GRAPH).with_suffix(".bin")
    content = bytearray(file.read_bytes())
    for at in range(0, len(content) // 2, 4):
        content[at + 2] ^= 0x40
    file.write_bytes(bytes(content))


def _tokenizer(folder: Path, model: Path) -> None:
    other = folder.parent / "other"
    words = tokenizer(other)
    words.add_tokens(["door", "window"])
    words.save_pretrained(other)
    shutil.copyfile(other / "tokenizer.json", folder / "tokenizer.json")


def _limit(folder: Path, model: Path) -> None:
    write_export_record(folder, replace(read_export_record(folder), max_source_tokens=23))


def _verbalizer(folder: Path, model: Path) -> None:
    record = read_export_record(folder)
    words = {"true": "surely false", "false": "surely true", "open": "not said"}
    task = replace(record.task, verbalizers=words)
    ids = [record.label_ids[k] for k in (1, 0, 2)]
    write_export_record(folder, replace(record, task=task, label_ids=ids))


def _scaled(folder: Path, model: Path) -> None:
    student = load_student(str(model))
    head = student.model.get_output_embeddings()
    head.register_forward_hook(lambda _module, _inputs, logits: logits * 0.7)
    save_graph(build_graph(student, label_ids(student, TASK)), folder / GRAPH)


@pytest.mark.parametrize("damage", [_weights, _tokenizer, _limit, _verbalizer, _scaled])
def test_a_damaged_export_is_refused(
    made: Callable[[str], Made], tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    whole = made("t5-v1.1")
    student = Student.load(whole.checkpoint)
    wanted = score_matrix(student.score(ROWS), TASK.labels)
    folder = tmp_path / "export"
    shutil.copytree(whole.export.folder, folder)
    gate(folder, student.loaded, student.record, wanted, ROWS, 0)  # undamaged, it is accepted
    damage(folder, whole.checkpoint)
    record = folder / "export.json"
    if damage in (_weights, _tokenizer, _scaled):
        with pytest.raises(StudentError, match="SHA-256 differs"):
            read_export_record(folder)
    # As a faulty exporter would leave it: with digests of the damaged files.
    import json

    from tutelage.core.model_files import file_sha256
    from tutelage.core.storage import digest, write_json

    values = json.loads(record.read_text(encoding="utf-8"))
    values["files_sha256"] = {n: file_sha256(folder / n) for n in values["files_sha256"]}
    write_json(record, values | {"sha256": digest({**values, "sha256": ""})})
    read_export_record(folder)
    with pytest.raises(StudentError) as refused:
        gate(folder, student.loaded, student.record, wanted, ROWS, 0)
    assert "SHA-256" not in str(refused.value)


def test_a_changed_record_is_refused_by_its_digest(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(made("t5").export.folder, folder)
    record = folder / "export.json"
    text = record.read_text(encoding="utf-8")
    record.write_text(text.replace('"max_source_tokens": 24', '"max_source_tokens": 12'), "utf-8")
    with pytest.raises(StudentError, match="its SHA-256 differs"):
        Student.load(folder)


def test_each_bound_is_checked_by_itself() -> None:
    plain = np.log(np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.2, 0.8]]))
    labels = [replace(r, label="ab"[k]) for r, k in zip(ROWS, (0, 1, 0, 1), strict=False)]
    same = check_scores(("a", "b"), plain, plain, labels, "f32", 0)
    assert (same.largest, same.agreement, same.log_loss) == (0.0, 1.0, 0.0)
    near = np.log(np.exp(plain) + [[0.004, -0.004]] * 4)
    with pytest.raises(ParityError, match=r"differs by 0\.0040"):
        check_scores(("a", "b"), plain, near, labels, "f32", 0)
    assert check_scores(("a", "b"), plain, near, labels, "int8", 0).within == 1.0
    assert [b.split(" ")[0] for b in broken(replace(same, within=0.98), "int8")] == [
        "probabilities"
    ]
    assert "log loss" in broken(replace(same, log_loss=0.011), "int8")[0]
    assert "margin" in broken(replace(same, agreement_by_margin=0.99), "f32")[0]
    assert "accuracy" in broken(replace(same, accuracy=0.5, accuracy_before=0.506), "f32")[0]
    assert not broken(replace(same, accuracy=0.5, accuracy_before=0.505), "f32")


def test_the_temperature_is_fitted_on_the_exports_own_scores(made: Callable[[str], Made]) -> None:
    export = made("t5").export
    model = Student.load(export.folder).loaded
    scores = model.scores(model.encode(ROWS[:20]))
    gold = [TASK.labels.index(e.label) for e in ROWS[:20]]

    fitted = export.record.temperature
    assert fitted == fit_temperature(scores, gold) != 1.0
    (first,) = model.score(ROWS[:1])
    wanted = torch.softmax(torch.tensor(scores[0]) / fitted, 0).tolist()
    assert list(first.probabilities.values()) == pytest.approx(wanted, abs=1e-6)


def test_the_fitted_temperature_has_the_lowest_mean_log_loss() -> None:
    random = np.random.default_rng(0)
    scores = 3 * random.normal(size=(400, 3))
    shares = np.exp(scores / 2.5)
    gold = [int(random.choice(3, p=row / row.sum())) for row in shares]

    def loss(t: float) -> float:
        logs = torch.log_softmax(torch.tensor(scores) / t, 1)
        return -float(logs[range(400), gold].mean())

    fitted = fit_temperature(scores, gold)
    assert 2.0 < fitted < 3.1
    assert loss(fitted) < min(loss(fitted * 1.02), loss(fitted / 1.02), loss(1.0))


def test_an_export_needs_rows_a_new_folder_and_a_checkpoint(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    whole = made("t5")
    with pytest.raises(UsageError, match="parity gate needs rows"):
        export_model(whole.checkpoint, tmp_path / "x", ExportSettings())
    with pytest.raises(UsageError, match="exists already"):
        export_model(whole.checkpoint, tmp_path, ExportSettings(), test=ROWS)
    with pytest.raises(UsageError, match="is an export already"):
        export_model(whole.export.folder, tmp_path / "x", ExportSettings(), test=ROWS)
    slow = tmp_path / "slow"
    shutil.copytree(whole.checkpoint, slow)
    (slow / "tokenizer.json").unlink()
    assert list(tmp_path.iterdir()) == [slow]
    # A run's folder is left as it was, and nothing half-made is left.
    with pytest.raises(StudentError):
        export_model(slow, tmp_path / "x", ExportSettings(), test=ROWS)
    assert list(tmp_path.iterdir()) == [slow]
