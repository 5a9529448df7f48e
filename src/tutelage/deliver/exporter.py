"""Exports a trained student: a folder that stands alone, and that answers as what was evaluated."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage.config.export_settings import ExportSettings
from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.errors import StudentError, UsageError
from tutelage.core.export_record import (
    CARD,
    ExportPrecision,
    ExportRecord,
    LabelEngineName,
    RationaleEngineName,
    write_export_record,
)
from tutelage.core.storage import as_json, remove, write_atomic
from tutelage.core.types import Example, Prediction
from tutelage.deliver.exported import CHECKPOINT, ExportedModel
from tutelage.deliver.gguf.gguf_export import GgufWork, plan_gguf
from tutelage.deliver.kept_promise import write_calibration
from tutelage.deliver.label_engine import GRAPH, has_bf16
from tutelage.deliver.model_card import Background, Card, write_card
from tutelage.deliver.parity import Parity, ParityError, check_encoding, check_scores, long_rows
from tutelage.deliver.score_matrix import score_matrix
from tutelage.deliver.trained import Student
from tutelage.evaluation.temperature import Floats, fit_temperature, mean_log_loss
from tutelage.student.encoding.plain_tokenizer import TOKENIZER_FILE
from tutelage.student.encoding.prompts import (
    encode_label,
    encode_prompts,
    explaining_prompt,
    explains_after_label,
    label_ids,
)

_EXPLAINED = {"f32": 4, "int8": 16}
"""Rows whose rationales are compared."""

_TIMED = 30
"""Rows that are predicted one by one, for the latency."""

_TOGETHER = 200
"""Rows that are predicted together, for the throughput."""


@dataclass(frozen=True)
class Export:
    """What was exported.

    notes: what a user should know, one sentence each
    """

    folder: Path
    record: ExportRecord
    parity: Parity
    notes: tuple[str, ...]


def export_model(
    model: Path,
    output: Path,
    settings: ExportSettings,
    *,
    dev: Sequence[Example] = (),
    test: Sequence[Example] = (),
    calibration: Sequence[Example] = (),
    background: Background | None = None,
    overwrite: bool = False,
) -> Export:
    """Export a checkpoint, or the model that a run recommends.

    dev:  rows that the temperature is fitted on; empty: the temperature stays 1
    test: rows that the parity gate compares; empty: rows of dev. Without either it is refused.
    calibration: labelled rows that chose nothing, for `serve --promise`

    Raises UsageError for an output that is there already, ParityError for an export that does not
    answer as the checkpoint does, and StudentError for a student that cannot be exported.
    """
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists already: name another folder, or add --overwrite")
    if not (test or dev):
        raise UsageError(
            "the parity gate needs rows: name the folder of a run, or add --test FILE (and --dev "
            "FILE for the temperature)"
        )
    student = Student.load(model)
    record = student.record
    if not isinstance(record, CheckpointRecord):
        raise UsageError(f"{model}: is an export already: name a checkpoint or a run")
    if not (student.folder / TOKENIZER_FILE).is_file():
        raise StudentError(
            f"{student.folder}: has no {TOKENIZER_FILE}: an export needs a tokenizer that the "
            "package `tokenizers` reads; train the student with its fast tokenizer"
        )
    if student.loaded.architecture == "classifier":
        raise StudentError(
            f"{student.folder}: is a classifier, a baseline: `tutelage export` writes students "
            "that were trained on texts; `tutelage predict` uses this one as it is"
        )
    gguf = None
    if settings.gguf != "none":
        gguf = plan_gguf(student.loaded, student.folder, record, settings.gguf)
    parts = output.with_name(f".{output.name}.part")
    remove(parts)
    parts.mkdir(parents=True)
    try:
        work = _Work(student, record, settings, parts, list(test or dev), list(dev))
        work.calibration, work.gguf = [row for row in calibration if row.label], gguf
        export = work.run(background or Background(student.folder.name), output)
    except BaseException:
        remove(parts)
        raise
    if output.exists():
        remove(output)
    parts.rename(output)
    return export


class _Work:
    """One export."""

    def __init__(
        self,
        student: Student,
        record: CheckpointRecord,
        settings: ExportSettings,
        folder: Path,
        rows: Sequence[Example],
        dev: Sequence[Example],
    ) -> None:
        self.student, self.record, self.settings, self.folder = student, record, settings, folder
        made_up = long_rows(rows, record.task.fields, record.max_source_tokens)
        self.rows, self.made_up, self.dev = [*rows, *made_up], len(made_up), dev
        self.notes: list[str] = []
        self.calibration: list[Example] = []
        self.gguf: GgufWork | None = None

    def run(self, background: Background, output: Path) -> Export:
        shutil.copyfile(self.student.folder / TOKENIZER_FILE, self.folder / TOKENIZER_FILE)
        plain = self.student.score(self.rows)
        parity, written = self._labels(plain)
        gguf = self._gguf(plain)
        rationales, said = self._rationales(written)
        written = replace(written, rationale_engine=rationales)
        if self.settings.threshold is not None:
            written = replace(written, threshold=self.settings.threshold)
        written = write_export_record(self.folder, written)
        model = load_export(self.folder)
        temperature, calibration = self._temperature(model)
        facts = {
            **as_json(parity), **calibration, "rationales": said, "notes": self.notes, **gguf,
            "latency_ms": self._latency(model),
            "seconds_for_1000": self._seconds_for_1000(model),
            "usd_per_hour": self.settings.usd_per_hour,
        }  # fmt: skip
        written = write_export_record(
            self.folder, replace(written, temperature=temperature, parity=facts)
        )
        if self.calibration and self.dev:
            measured = load_export(self.folder)
            confidence = [max(p.probabilities.values()) for p in measured.score(list(self.dev))]
            found = measured.score(self.calibration)
            write_calibration(self.folder, confidence, found)
            written = write_export_record(self.folder, written)
        write_atomic(self.folder / CARD, write_card(Card(written, parity, background)))
        return Export(output, written, parity, tuple(self.notes))

    def _labels(self, plain: Sequence[Prediction]) -> tuple[Parity, ExportRecord]:
        """Write what computes labels, in the first way that passes the gate."""
        wanted = score_matrix(plain, self.record.task.labels)
        ways: list[tuple[LabelEngineName, ExportPrecision]] = []
        if self.settings.engine != "transformers":
            if self.settings.precision == "bf16" and not has_bf16():
                raise UsageError(
                    "precision: this processor does not compute bf16: leave --precision out, or "
                    "export on one that does"
                )
            ways += [("openvino", self.settings.precision), ("openvino", "f32")]
        if self.settings.engine != "openvino":
            ways.append(("transformers", "f32"))
        ways = list(dict.fromkeys(ways))
        for number, (engine, precision) in enumerate(ways, 1):
            try:
                return self._label_files(engine, precision, wanted)
            except StudentError as error:
                if number == len(ways):
                    raise
                self.notes.append(
                    f"{engine} in {precision} was not exported: {error}. Next: "
                    f"{' in '.join(ways[number])}."
                )
        raise AssertionError("there is always a way")

    def _gguf(self, plain: Sequence[Prediction]) -> dict[str, Any]:
        """Write the GGUF file, where one is asked for: what the card says of it."""
        if self.gguf is None:
            return {}
        wanted = score_matrix(plain, self.record.task.labels)
        facts, notes = self.gguf.write(self.folder, wanted, self.rows, self.made_up)
        self.notes += notes
        return {"gguf": facts}

    def _label_files(
        self, engine: LabelEngineName, precision: ExportPrecision, wanted: Floats
    ) -> tuple[Parity, ExportRecord]:
        remove(self.folder / Path(GRAPH).parts[0])
        loaded, task = self.student.loaded, self.record.task
        ids = label_ids(loaded, task)
        if engine == "openvino":
            from tutelage.student.inference.label_graph import build_graph, save_graph

            graph = build_graph(loaded, ids)
            save_graph(graph, self.folder / GRAPH, int8=precision == "int8")
        else:
            self._copy_checkpoint()
        before, after = loaded.affixes
        unknown = loaded.tokenizer.unk_token_id
        record = write_export_record(
            self.folder,
            ExportRecord(
                task=task,
                objective=self.record.objective,
                architecture=loaded.architecture,
                max_source_tokens=self.record.max_source_tokens,
                max_rationale_tokens=self.record.max_rationale_tokens,
                label_engine=engine,
                rationale_engine="none",
                precision=precision,
                label_ids=ids,
                eos_id=loaded.eos_id,
                unk_id=unknown,
                before=before,
                after=after,
                checkpoint_sha256=self.record.weights_sha256,
                layout=self.student.layout.model_dump(mode="json"),
                versions=_versions(),
                decision_rule=self.record.decision_rule,
                examples=[dict(row.fields) for row in self.rows[:3]],
            ),
        )
        return gate(self.folder, loaded, self.record, wanted, self.rows, self.made_up), record

    def _rationales(self, record: ExportRecord) -> tuple[RationaleEngineName, str]:
        """Write what writes rationales: its name, and a sentence."""
        wanted = self.settings.rationales
        if wanted == "none" or self.record.objective == "label":
            return "none", "none were asked for" if wanted == "none" else "the student learnt none"
        if wanted != "transformers":
            first = self.settings.rationale_precision
            for precision in dict.fromkeys((first, "f32")):
                try:
                    return "ctranslate2", self._with_ctranslate2(record, precision)
                except StudentError as error:
                    if precision != "f32":
                        self.notes.append(
                            f"Rationales in {precision} were not exported: {error}. Next: f32."
                        )
                        continue
                    if wanted == "ctranslate2":
                        raise
                    self.notes.append(
                        "Rationales need torch and transformers, since CTranslate2 was refused: "
                        f"{error}"
                    )
        self._copy_checkpoint()
        return "transformers", "by the checkpoint itself"

    def _with_ctranslate2(self, record: ExportRecord, precision: str) -> str:
        """Write CTranslate2's files in a precision that passes the gate: a sentence about it."""
        from tutelage.deliver.rationale_engine import RATIONALES
        from tutelage.deliver.rationale_files import TOLERANCE, compare_rationales, convert

        loaded, limits = self.student.loaded, self.record
        ordered = sorted(self.rows, key=lambda e: sum(map(len, e.fields.values())))
        half = _EXPLAINED[precision] // 2
        some = list({e.uid: e for e in (*ordered[:half], *ordered[-half:])}.values())
        found = self.student.score(some, explain=True)
        try:
            convert(self.student.folder, self.folder, int8=precision == "int8")
            model = ExportedModel(self.folder, record)
            sources = [limits.task.source(e.fields) for e in some]
            prompt = explaining_prompt(loaded)
            prompts = encode_prompts(loaded, sources, prompt, limits.max_source_tokens)
            targets = []
            for one in found:
                start = encode_label(loaded, limits.task.verbalize(one.label))
                ids = loaded.tokenizer(one.rationale or "a", add_special_tokens=False).input_ids
                after = explains_after_label(loaded)
                targets.append([*(start if after else []), *ids, loaded.eos_id][:64])
            largest, mean = compare_rationales(
                loaded, model.rationale_engine, [p.ids for p in prompts], targets
            )
            what, found_difference = "of a token differs by", largest
            if precision == "int8":
                what, found_difference = "of the tokens differs on average by", mean
            if found_difference > TOLERANCE[precision]:
                raise ParityError(
                    f"the log-probability {what} {found_difference:.4f} in rationales, at most "
                    f"{TOLERANCE[precision]} is allowed"
                )
        except StudentError:
            remove(self.folder / RATIONALES)
            raise
        return (
            f"CTranslate2 in {precision}: log-probabilities of tokens within {largest:.1e}, on "
            f"average {mean:.1e}, on {len(some)} rows"
        )

    def _temperature(self, model: ExportedModel) -> tuple[float, dict[str, Any]]:
        """The temperature, fitted on the export's own scores of dev."""
        labels = model.task.labels
        rows = [row for row in self.dev if row.label]
        if not rows:
            self.notes.append(
                "No rows of dev were given: the temperature is 1, and probabilities are as the "
                "student gives them."
            )
            return 1.0, {}
        scores = score_matrix(model.score(rows), labels)
        gold = [labels.index(row.label) for row in rows]
        temperature = fit_temperature(scores, gold)
        return temperature, {
            "temperature_rows": len(rows),
            "dev_log_loss": mean_log_loss(scores, gold),
            "dev_log_loss_at_temperature": mean_log_loss(scores, gold, temperature),
        }

    def _latency(self, model: ExportedModel) -> float:
        """Median milliseconds for one row."""
        rows = self.rows[: -self.made_up or None][:_TIMED]
        model.score(rows[:1])
        seconds = []
        for row in rows:
            begun = time.perf_counter()
            model.score([row])
            seconds.append(time.perf_counter() - begun)
        return round(1000 * sorted(seconds)[len(seconds) // 2], 2)

    def _seconds_for_1000(self, model: ExportedModel) -> float:
        """Seconds for 1,000 rows that are predicted together, from those that are there."""
        rows = self.rows[: -self.made_up or None][:_TOGETHER]
        begun = time.perf_counter()
        model.score(rows)
        return round(1000 * (time.perf_counter() - begun) / len(rows), 3)

    def _copy_checkpoint(self) -> None:
        shutil.copytree(self.student.folder, self.folder / CHECKPOINT, dirs_exist_ok=True)


def load_export(folder: Path) -> ExportedModel:
    """The model of an export, with its checkpoint where it needs that."""
    model = Student.load(folder).loaded
    assert isinstance(model, ExportedModel)
    return model


def gate(
    folder: Path,
    student: Any,
    record: CheckpointRecord,
    wanted: Floats,
    rows: Sequence[Example],
    made_up: int,
) -> Parity:
    """Compare the export in `folder` with the student that was evaluated.

    wanted:  the student's own log-probabilities of `rows`: [rows, labels]
    made_up: how many of the rows, the last ones, were made up

    Raises ParityError, or StudentError where the export cannot even be loaded.
    """
    model = load_export(folder)
    check_encoding(student, record, model, rows)
    if model.record.label_engine == "transformers":
        found = score_matrix(model.score(rows), model.task.labels)
    else:
        found = model.scores(model.encode(rows))
    # What was evaluated in 16 bits is known to no more than that.
    precision = "bf16" if record.precision == "bf16" else model.record.precision
    return check_scores(model.task.labels, wanted, found, rows, precision, made_up)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("tutelage", "torch", "transformers", "tokenizers", "openvino", "ctranslate2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
