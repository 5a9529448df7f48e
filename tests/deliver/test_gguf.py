"""A GGUF file answers in llama.cpp as the student that was evaluated, or it is refused."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from students import LIMIT, ROWS, TASK, checkpoint, rows

from tutelage import Student
from tutelage.config.export_settings import ExportSettings
from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.errors import MissingExtraError, StudentError
from tutelage.core.export_record import read_export_record
from tutelage.deliver.exporter import export_model
from tutelage.deliver.gguf import gguf_weights
from tutelage.deliver.gguf.gguf_export import FILE, plan_gguf
from tutelage.deliver.gguf.gguf_parity import gguf_gate
from tutelage.deliver.gguf.gguf_vocabulary import read_vocabulary
from tutelage.deliver.gguf.llama_server import LlamaServer
from tutelage.deliver.parity import ParityError
from tutelage.deliver.score_matrix import score_matrix
from tutelage.student.encoding.prompts import encode_prompts, label_ids

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed"
)

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ONLY_LABELS = {"engine": "transformers", "rationales": "none"}


def byte_level(pre: str, *, begin: bool = False) -> Any:
    """A byte-level BPE tokenizer of a few words, with the named way of splitting texts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    parts = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    first: dict[str, list[Any]] = {
        "gpt-2": [whole],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), whole],
        "qwen2": [pre_tokenizers.Split(Regex(QWEN), "isolated"), parts],
        "llama-bpe": [
            pre_tokenizers.Split(Regex(QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")), "isolated"),
            parts,
        ],
    }
    made = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    made.pre_tokenizer = pre_tokenizers.Sequence(first[pre])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<pad>", "<end>", "<begin>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    texts = [TASK.source(e.fields).text + ".\nAnswer: 2024" for e in rows(60)]
    made.train_from_iterator(
        [*texts, *["surely true surely false not said\nRationale:"] * 9], trainer
    )
    if begin:
        made.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>",
        bos_token="<begin>" if begin else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of a family with a byte-level tokenizer."""
    kinds = {"llama": ("smollm", True), "gpt2": ("gpt-2", False), "qwen2": ("qwen2", False)}
    found: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in found:
            pre, begin = kinds[family]
            words = byte_level(pre, begin=begin)
            found[family] = checkpoint(tmp_path_factory.mktemp(family), family, words=words)
        return found[family]

    return make


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_a_file_of_each_family_scores_in_llama_cpp_as_the_student(
    trained: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    model = trained(family)
    settings = ExportSettings(gguf="f32", **ONLY_LABELS)
    export = export_model(model, tmp_path / "export", settings, dev=ROWS[:9], test=ROWS[:20])
    facts = (export.record.parity or {})["gguf"]
    assert facts["precision"] == "f32" and facts["seam"] == 0 < facts["scores"]["made_up"]
    # llama.cpp looks GELU up in a table of f16, so that GPT-2 is never exact.
    assert (facts["exact"] is None) == (family == "gpt2")
    assert family == "gpt2" or facts["exact"]["largest"] < 1e-4
    assert FILE in (read_export_record(export.folder).files_sha256 or {})
    # As a user asks it: in one text, by the Modelfile's template.
    template = (export.folder / "gguf" / "Modelfile").read_text(encoding="utf-8")
    before, _, after = (
        template.partition('TEMPLATE """')[2].partition('"""')[0].partition("{{ .Prompt }}")
    )
    student = Student.load(model)
    short = [row for row in ROWS if len(row.fields["note"].split()) < 6][:4]
    wanted = student.predict(short)
    with LlamaServer(export.folder / FILE, 64, exact=True) as server:
        prompts = [server.tokens(before + TASK.source(row.fields).text + after) for row in short]
        found = server.scores(prompts, label_ids(student.loaded, TASK))
    shares = np.exp(found) / np.exp(found).sum(1, keepdims=True)
    for row, prediction in zip(shares, wanted, strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(
            row.tolist(), abs=5e-3 if family == "gpt2" else 1e-4
        )
    card = (export.folder / "README.md").read_text(encoding="utf-8")
    assert "for llama.cpp, f32: probabilities within" in card


def test_8_bits_are_smaller_or_more_are_written_and_said(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    model = trained("llama")
    settings = ExportSettings(gguf="q8_0", **ONLY_LABELS)
    export = export_model(model, tmp_path / "export", settings, test=ROWS[:20])
    facts = (export.record.parity or {})["gguf"]
    # Random weights are far from what rounding leaves alone.
    if facts["precision"] != "q8_0":
        assert any(note.startswith("GGUF in q8_0 was not exported: ") for note in export.notes)
    student = Student.load(model)
    work = plan_gguf(student.loaded, model, record_of(student), "q8_0")
    sizes = {}
    for precision in ("q8_0", "f16", "f32"):
        file = tmp_path / f"{precision}.gguf"
        gguf_weights.write_gguf_file(file, student.loaded, work.vocabulary, precision, "x")
        with LlamaServer(file, 64, exact=False) as server:
            assert isinstance(server.text_after("Note: a", 2), str)
        sizes[precision] = sum(t.nbytes for t in _tensors(file))
    assert sizes["f16"] < 0.55 * sizes["f32"] and sizes["q8_0"] < 0.4 * sizes["f32"]


def record_of(student: Student) -> CheckpointRecord:
    """The record of a checkpoint."""
    assert isinstance(student.record, CheckpointRecord)
    return student.record


def _tensors(file: Path) -> list[Any]:
    import gguf

    return [tensor.data for tensor in gguf.GGUFReader(file).tensors]


def test_a_prompt_whose_cue_merges_with_the_text_is_sent_in_two_parts(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    ending = [
        replace(row, fields={**row.fields, "claim": row.fields["claim"] + "."}) for row in ROWS[:9]
    ]
    settings = ExportSettings(gguf="f32", **ONLY_LABELS)
    export = export_model(trained("qwen2"), tmp_path / "export", settings, test=ending)
    facts = (export.record.parity or {})["gguf"]
    assert facts["seam"] == facts["rows_as_text"] > 0
    assert any("no Modelfile was written" in note for note in export.notes)
    assert not (export.folder / "gguf" / "Modelfile").exists()
    text = (export.folder / "gguf" / "README.md").read_text(encoding="utf-8")
    body = json.loads(text.partition("--data '")[2].partition("'\n")[0])
    student = Student.load(trained("qwen2")).loaded
    source = TASK.source(ending[0].fields)
    (encoded,) = encode_prompts(student, [source], "answer", LIMIT)
    with LlamaServer(export.folder / FILE, 64, exact=True) as server:
        assert [*server.tokens(body["prompt"][0]), *body["prompt"][1:]] == encoded.ids
        assert server.tokens(source.text + "\nAnswer:") != encoded.ids


STOPS = """
import sys
from pathlib import Path
from tutelage.deliver.gguf.llama_server import LlamaServer
for _ in range(60):
    with LlamaServer(Path(sys.argv[1]), 64, exact=True):
        pass
"""


def test_a_server_can_be_stopped_as_soon_as_it_has_started(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = ExportSettings(gguf="f32", **ONLY_LABELS)
    export = export_model(trained("qwen2"), tmp_path / "export", settings, test=ROWS[:9])
    # In a process of its own: a stop that waits for ever holds all threads.
    command = [sys.executable, "-c", STOPS, str(export.folder / FILE)]
    subprocess.run(command, check=True, timeout=100)


@pytest.mark.parametrize("damage", ["scaled", "not rotated", "another tokenizer"])
def test_a_damaged_file_is_refused(
    trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    model = trained("gpt2" if damage == "another tokenizer" else "llama")
    student = Student.load(model)
    wanted = score_matrix(student.score(ROWS[:20]), TASK.labels)
    work = plan_gguf(student.loaded, model, record_of(student), "f32")
    file, vocabulary = tmp_path / "model.gguf", work.vocabulary
    if damage == "scaled":
        plain = gguf_weights._weights
        monkeypatch.setattr(
            gguf_weights,
            "_weights",
            lambda *given: (
                (n, 0.7 * w if n == "model.norm.weight" else w) for n, w in plain(*given)
            ),
        )
    elif damage == "not rotated":
        monkeypatch.setattr(gguf_weights, "_interleaved", lambda weights, _heads: weights)
    else:
        vocabulary = replace(vocabulary, pre="smollm")  # splits numbers into digits
    gguf_weights.write_gguf_file(file, student.loaded, vocabulary, "f32", "x")
    with pytest.raises(ParityError):
        gguf_gate(file, student.loaded, record_of(student), True, wanted, ROWS[:20], 0)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_the_name_of_the_pre_tokenizer_is_read_from_its_rules(tmp_path: Path, pre: str) -> None:
    byte_level(pre, begin=True).save_pretrained(tmp_path)
    found = read_vocabulary(tmp_path / "tokenizer.json", size=430, eos_id=1, before=[2])
    assert found.pre == pre and found.bos_id == 2 and len(found.tokens) == 430
    assert found.types[:4] == [3, 3, 3, 1] and found.tokens[-1] == "[PAD429]"
    assert not found.composes
    described = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "other.json").write_text(
        json.dumps({**described, "normalizer": {"type": "NFC"}}), encoding="utf-8"
    )
    assert read_vocabulary(tmp_path / "other.json", size=430, eos_id=1, before=[2]).composes


def _changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(described: dict[str, Any]) -> None:
        if key in described:
            described[key] = value
        else:
            described["model"][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_changed("type", "Unigram"), "it is Unigram, and byte-level BPE is expected"),
        (_changed("byte_fallback", True), "it is BPE with byte fallback"),
        (_changed("normalizer", {"type": "Lowercase"}), "it changes texts first \\(Lowercase\\)"),
        (_changed("pre_tokenizer", {"type": "Whitespace"}), "it splits words by Whitespace"),
        (_changed("ignore_merges", True), "it splits words by bytes of words"),
        (_changed("end_of_word_suffix", "</w>"), "its BPE has end_of_word_suffix"),
    ],
)
def test_another_tokenizer_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    byte_level("gpt-2").save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    described = json.loads(file.read_text(encoding="utf-8"))
    change(described)
    file.write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(StudentError, match=why) as refused:
        read_vocabulary(file, size=430, eos_id=1, before=[])
    assert "\n" not in str(refused.value)


def test_what_cannot_be_exported_is_refused_before_any_work(
    trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExportSettings(gguf="f32", **ONLY_LABELS)
    monkeypatch.setattr(Student, "score", lambda *_a, **_k: pytest.fail("rows were scored"))
    with pytest.raises(StudentError, match="this one is encoder-decoder: leave --gguf out"):
        export_model(checkpoint(tmp_path / "t5", "t5"), tmp_path / "x", settings, test=ROWS)
    words = byte_level("gpt-2")
    late = checkpoint(tmp_path / "late", "gpt2", "rationale_then_label", words)
    with pytest.raises(StudentError, match="writes its rationale before the label"):
        export_model(late, tmp_path / "x", settings, test=ROWS)
    with pytest.raises(StudentError, match="byte fallback, and byte-level BPE is expected"):
        export_model(checkpoint(tmp_path / "own", "llama"), tmp_path / "x", settings, test=ROWS)

    student = Student.load(trained("llama"))
    config = student.loaded.model.config
    for key, value, why in (
        ("hidden_act", "relu", "hidden_act is 'relu', and llama.cpp's 'llama' has 'silu'"),
        ("sliding_window", 8, "sliding_window is 8"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}, "rotary positions .'yarn'"),
        ("model_type", "bloom", "this student is a 'bloom', and files are written for llama"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(config, key, value, raising=False)
            with pytest.raises(StudentError, match=why):
                plan_gguf(student.loaded, trained("llama"), record_of(student), "f32")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tutelage\[local\]"):
        plan_gguf(student.loaded, trained("llama"), record_of(student), "f32")
    assert not (tmp_path / "x").exists()
