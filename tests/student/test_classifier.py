"""A classifier is loaded whole or refused, computes what the plain model does, and learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import TASK, make_encoder, reviews

from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError
from tutelage.deliver.trained import Student as Trained
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.inference.score import score_labels
from tutelage.student.jobs.jobs import ScoringJob, TrainingJob, run_scoring, run_training
from tutelage.student.model.classifier import usual_rates
from tutelage.student.model.loading import load_student
from tutelage.student.preflight.examine import examine_student

KINDS = ("Bert", "ModernBert")
SETTINGS = TrainSettings(objective="label", fast="off", max_source_tokens=64, batch_size=16)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: make_encoder(folder / kind, kind) for kind in (*KINDS, "Roberta")}


def _job(model: str, folder: Path, rows: int = 16, **settings: Any) -> TrainingJob:
    given = SETTINGS.replace(**settings)
    training = build_training_examples(reviews(rows, 1), TASK, None, "label")
    return TrainingJob(model, None, training, reviews(40, 2), TASK, given, folder, classifies=True)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_with_the_usual_rates(
    encoders: dict[str, str], tmp_path: Path, kind: str
) -> None:
    rate = max(usual_rates((2e-5, 1e-5, 5e-5), 32))
    assert rate == pytest.approx(1.2e-3)
    job = _job(encoders[kind], tmp_path, rows=480, learning_rate=rate, warmup_steps=20)
    assert run_training(job).dev_accuracy == 1.0
    rows = reviews(30, 3)
    scored = run_scoring(ScoringJob(job, rows, None))
    assert sum(p.label == p.gold for p in scored) == len(rows)
    # What is saved predicts the same, knows that it is a classifier, and explains nothing.
    trained = Trained.load(tmp_path / "model")
    assert trained.predict(rows).rows == tuple(scored)
    assert "classifier" in trained.record.decision_rule
    with pytest.raises(StudentError, match="writes no rationales"):
        trained.predict(rows[:1], explain=True)


@pytest.mark.parametrize("kind", [*KINDS, "Roberta"])
def test_scores_are_those_of_transformers(encoders: dict[str, str], kind: str) -> None:
    student = load_student(encoders[kind], labels=TASK.labels, seed=4)
    rows = reviews(7, 5)
    for row, found in zip(rows, score_labels(student, rows, TASK), strict=True):
        ids = student.tokenizer(TASK.source(row.fields).text, return_tensors="pt").input_ids
        with torch.no_grad():
            wanted = torch.softmax(student.model.eval()(input_ids=ids).logits[0], dim=-1)
        assert list(found.probabilities.values()) == pytest.approx(wanted.tolist(), abs=1e-5)
    again, other = (load_student(encoders[kind], labels=TASK.labels, seed=s) for s in (4, 5))
    weights = [dict(s.model.named_parameters()) for s in (student, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    new = {name for name in weights[0] if not torch.equal(weights[0][name], weights[2][name])}
    assert new  # the head, and nothing that the files hold
    assert not {name for name in new if ".layer" in name or "embeddings" in name}


def test_an_interrupted_training_ends_like_another(
    encoders: dict[str, str], tmp_path: Path
) -> None:
    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    whole, broken = (
        _job(encoders["Bert"], tmp_path / name, rows=48, learning_rate=3e-3, evaluate_every=3)
        for name in ("whole", "broken")
    )
    expected = run_training(whole)
    with pytest.raises(KeyboardInterrupt):
        run_training(broken, stop)
    assert (broken.folder / "state.pt").exists()
    found = run_training(broken)
    assert (found.dev_accuracy, found.best_step) == (expected.dev_accuracy, expected.best_step)
    for one, other in zip(
        *(load_file(j.folder / "model" / "model.safetensors").values() for j in (whole, broken)),
        strict=True,
    ):
        assert torch.equal(one, other)


def _examine(model: str, **settings: Any) -> Any:
    rows = reviews(20, 1)
    return examine_student(model, rows, TASK, [SETTINGS.replace(**settings)], classifies=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_preflight_has_nothing_to_note(encoders: dict[str, str], kind: str) -> None:
    found = _examine(encoders[kind])
    assert (found.notes, found.fast, found.width) == ((), "off", 32)


def test_a_rate_belongs_to_a_width() -> None:
    assert usual_rates((2e-5, 1e-5, 5e-5), 768) == (2e-5, 1e-5, 5e-5)
    assert usual_rates((2e-5,), 1024) == (2e-5,)
    assert usual_rates((2e-5,), 128) == pytest.approx((1.2e-4,))


@pytest.mark.parametrize(("kind", "lost"), [("Bert", "layer.1."), ("ModernBert", "layers.0.")])
def test_lost_weights_of_the_encoder_are_named(
    encoders: dict[str, str], tmp_path: Path, kind: str, lost: str
) -> None:
    for file in Path(encoders[kind]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if lost not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudentError, match=f"its files lack .*{lost}"):
        _examine(str(tmp_path))


def test_too_few_positions_are_refused_in_one_line(tmp_path: Path) -> None:
    model = make_encoder(tmp_path, "Bert", positions=8)
    with pytest.raises(StudentError, match=r"positions for 8 tokens.*lower max_source_tokens"):
        _examine(model)
    assert _examine(model, max_source_tokens=8).longest == 8


def test_a_broken_mask_is_found(encoders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.student.preflight import subject

    right = subject.collate

    def cut(student: Any, examples: Any) -> Any:
        batch = right(student, examples)
        assert batch.attention_mask is not None
        batch.attention_mask[:, -3:] = 0  # the end of the longest row is not seen
        return batch

    monkeypatch.setattr(subject, "collate", cut)
    with pytest.raises(StudentError, match=r"its (loss|gradient)"):
        _examine(encoders["Bert"])


def test_code_in_a_folder_is_not_run(encoders: dict[str, str], tmp_path: Path) -> None:
    for file in Path(encoders["Bert"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    auto = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    config |= {"auto_map": auto, "model_type": "own"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "own.py").write_text(
        f"open({str(tmp_path / 'run')!r}, 'w').close()", encoding="utf-8"
    )
    with pytest.raises(StudentError) as error:
        _examine(str(tmp_path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_model_without_such_a_head_is_refused(tmp_path: Path) -> None:
    from transformers import AutoConfig

    make_encoder(tmp_path, "Bert")
    AutoConfig.for_model("marian", d_model=16).save_pretrained(tmp_path)
    with pytest.raises(StudentError, match="choose an encoder"):
        load_student(str(tmp_path), labels=["a", "b"])
