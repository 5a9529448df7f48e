"""The GGUF file of an export: checked beforehand, written, compared, and explained."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.export_settings import GgufPrecision
from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.errors import MissingExtraError, StudentError
from tutelage.core.storage import as_json, remove, write_atomic
from tutelage.core.types import Example
from tutelage.deliver.gguf.gguf_instructions import instructions, label_grammar, modelfile
from tutelage.deliver.gguf.gguf_parity import GgufParity, gguf_gate
from tutelage.deliver.gguf.gguf_vocabulary import Vocabulary, read_vocabulary
from tutelage.deliver.gguf.gguf_weights import family_of, write_gguf_file
from tutelage.evaluation.temperature import Floats
from tutelage.student.encoding.plain_tokenizer import TOKENIZER_FILE

GGUF = "gguf"
"""Folder of the file and of what explains it, in an export's folder."""

FILE = f"{GGUF}/model.gguf"

COMPOSE = (
    "Send texts with composed characters (Unicode's NFC): the student's tokenizer composes them "
    'itself, llama.cpp does not, and would read "e" and an accent as other tokens than "é".'
)
"""What users of a file have to know where the tokenizer has that step."""


@dataclass(frozen=True)
class GgufWork:
    """A GGUF file that can be written.

    student: the trained student, `student.model.student.Student`
    """

    student: Any
    record: CheckpointRecord
    vocabulary: Vocabulary
    precision: GgufPrecision

    def write(
        self, folder: Path, wanted: Floats, rows: Sequence[Example], made_up: int
    ) -> tuple[dict[str, Any], list[str]]:
        """Write the file in the first precision that passes the gate, with a Modelfile for Ollama,
        a grammar of the labels and instructions.

        wanted:  the student's own log-probabilities of `rows`: [rows, labels]
        made_up: how many of the rows, the last ones, were made up

        Returns what the card says of it, and notes for the user. Raises ParityError where f32 does
        not pass.
        """
        notes: list[str] = []
        file = folder / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        ways: list[GgufPrecision] = ["q8_0", "f16", "f32"]
        ways = ways[ways.index(self.precision) :]
        for number, precision in enumerate(ways, 1):
            remove(file)
            name = self.record.task.name
            write_gguf_file(file, self.student, self.vocabulary, precision, name)
            exactly = precision == "f32" and not family_of(self.student.model.config).in_16_bits
            try:
                parity = gguf_gate(file, self.student, self.record, exactly, wanted, rows, made_up)
                break
            except StudentError as error:
                if number == len(ways):
                    raise
                notes.append(
                    f"GGUF in {precision} was not exported: {error}. Next: {ways[number]}."
                )
        if self.vocabulary.composes:
            notes.append(f"GGUF: {COMPOSE}")
        if parity.seam:
            notes.append(
                f"GGUF: on {parity.seam:,} of {parity.rows_as_text:,} rows llama.cpp gives a "
                "prompt in one text other token ids than the student was trained on: no Modelfile "
                f"was written, and {GGUF}/README.md says how the prompt is sent in two parts."
            )
        self._explain(file.parent, precision, parity, rows)
        return {"precision": precision, **as_json(parity)}, notes

    def _explain(
        self, folder: Path, precision: GgufPrecision, parity: GgufParity, rows: Sequence[Example]
    ) -> None:
        student, record = self.student, self.record
        write_atomic(folder / "labels.gbnf", label_grammar(record.task))
        if not parity.seam:
            write_atomic(folder / "Modelfile", modelfile(student, record))
        text = instructions(student, record, precision, parity, rows[0])
        if self.vocabulary.composes:
            text += f"\n{COMPOSE}\n"
        write_atomic(folder / "README.md", text)


def plan_gguf(
    student: Any, folder: Path, record: CheckpointRecord, precision: GgufPrecision
) -> GgufWork:
    """Find out whether a student can be written as a GGUF file, before any work.

    student: as loaded from the checkpoint in `folder`

    Raises StudentError for one that llama.cpp does not have, MissingExtraError without xllamacpp.
    """
    if student.architecture != "decoder-only":
        raise StudentError(
            f"gguf: is for decoder-only students, and this one is {student.architecture}: leave "
            "--gguf out"
        )
    if record.objective == "rationale_then_label":
        raise StudentError(
            "gguf: this student writes its rationale before the label, so that llama.cpp's labels "
            "cannot be compared with what was evaluated: leave --gguf out"
        )
    for package, extra in (("xllamacpp", "local"), ("gguf", "train")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra, "--gguf")
    family_of(student.model.config)
    before, _ = student.affixes
    vocabulary = read_vocabulary(
        folder / TOKENIZER_FILE,
        size=student.embedded_tokens,
        eos_id=student.eos_id,
        before=before,
    )
    return GgufWork(student, record, vocabulary, precision)
