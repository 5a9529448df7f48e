"""What is written next to a GGUF file: how llama.cpp and Ollama are asked as in training."""

from __future__ import annotations

import json
import shlex
from typing import Any

from tutelage.config.export_settings import GgufPrecision
from tutelage.core.checkpoint_record import CheckpointRecord
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.deliver.gguf.gguf_parity import GgufParity
from tutelage.student.encoding.prompts import (
    explains_after_label,
    label_ids,
    prompt_cue,
    scoring_prompt,
)
from tutelage.student.encoding.targets import SEPARATOR
from tutelage.student.encoding.text_encoder import TextEncoder

_MORE = 8
"""Tokens for the separator and the end token."""


def label_grammar(task: Task) -> str:
    """A grammar (GBNF) that lets llama.cpp write a label and nothing else."""
    words = (json.dumps(f" {task.verbalize(label)}", ensure_ascii=False) for label in task.labels)
    return f"root ::= {' | '.join(words)}\n"


def modelfile(student: TextEncoder, record: CheckpointRecord) -> str:
    """Ollama's Modelfile: it puts the cue after the user's text, and draws nothing at random."""
    longest = answer_limit(student, record)
    cue = prompt_cue(scoring_prompt(student))
    return (
        "FROM ./model.gguf\n"
        f'TEMPLATE """{{{{ .Prompt }}}}{cue}"""\n'
        "PARAMETER temperature 0\n"
        "PARAMETER top_k 1\n"
        "PARAMETER repeat_penalty 1\n"
        f"PARAMETER num_ctx {record.max_source_tokens + longest}\n"
        f"PARAMETER num_predict {longest}\n"
    )


def answer_limit(student: TextEncoder, record: CheckpointRecord) -> int:
    """Tokens that an answer has at most."""
    label = max(map(len, label_ids(student, record.task)))
    rationale = record.max_rationale_tokens if record.objective == "label_then_rationale" else 0
    return label + rationale + _MORE


def instructions(
    student: TextEncoder,
    record: CheckpointRecord,
    precision: GgufPrecision,
    parity: GgufParity,
    example: Example,
) -> str:
    """The text next to the file, in Markdown."""
    task, limit = record.task, record.max_source_tokens
    cue = prompt_cue(scoring_prompt(student))
    text = task.source(example.fields).text
    context = limit + answer_limit(student, record)
    labels = " | ".join(f"`{task.verbalize(label)}`" for label in task.labels)
    sent = text + cue if not parity.seam else [text, *student.tokenizer(
        cue, add_special_tokens=False).input_ids]  # fmt: skip
    body = json.dumps(
        {"prompt": sent, "n_predict": answer_limit(student, record), "temperature": 0},
        ensure_ascii=False,
    )
    lines = [
        f"# {task.name}, for llama.cpp" + ("" if parity.seam else " and Ollama"),
        "",
        f"`model.gguf` holds the student in {precision}. It is asked for labels with this prompt:",
        "",
        "```",
        text + cue,
        "```",
        "",
        f"No special tokens are added by hand, no chat template is used, and nothing follows "
        f"`{cue.strip()}`, not even a space. The answer begins with a space and one of the words",
        f"{labels}.",
        *_what_follows(student),
        "",
        f"A prompt has at most {limit} tokens. `tutelage predict` cuts the "
        + (f"field {task.context!r}" if task.context else "longest field")
        + ", keeps the cue, and says so; llama.cpp and Ollama do neither: shorten the text before.",
        "",
        "## llama.cpp",
        "",
        "```sh",
        f"llama-server --model model.gguf --ctx-size {context} --port 8080",
        "curl localhost:8080/completion --data " + shlex.quote(body),
        "```",
        "",
        "`--grammar-file labels.gbnf` lets it write a label and nothing else.",
    ]
    if parity.seam:
        lines += [
            "",
            "The prompt is sent as its text and the token ids of the cue: as one text it would get "
            f"other tokens than in training, on {parity.seam:,} of {parity.rows_as_text:,} rows. "
            "Ollama takes one text alone, so that there is no Modelfile.",
        ]
    else:
        lines += [
            "",
            "## Ollama",
            "",
            "```sh",
            f"ollama create {task.name} --file Modelfile",
            f"ollama run {task.name} {shlex.quote(text)}",
            "```",
            "",
            "The Modelfile adds the cue: the text is sent without it.",
        ]
    return "\n".join([*lines, *_compared(parity)]) + "\n"


def _what_follows(student: TextEncoder) -> list[str]:
    if student.objective == "label_then_rationale":
        return [
            f"A new line with `{SEPARATOR}` and the rationale follow. For the label alone, stop at "
            'a new line (`"stop": ["\\n"]`).'
        ]
    if not explains_after_label(student):
        return [
            f"Its rationale is asked for with `{prompt_cue('explain').strip()}` in place of "
            f"`{prompt_cue('answer').strip()}`."
        ]
    return ["The end token follows, at which both stop."]


def _compared(parity: GgufParity) -> list[str]:
    scores: Any = parity.scores
    lines = [
        "",
        "## Compared with what was evaluated",
        "",
        f"- probabilities of labels in llama.cpp, with its usual cache in f16: within "
        f"{scores.largest:.1e} on {scores.rows:,} rows, {scores.made_up} of them made up and "
        f"longer than the limit; the same label on {scores.agreement:.2%}",
    ]
    if parity.exact is not None:
        lines.append(
            "- with a cache in f32 (`--cache-type-k f32 --cache-type-v f32 --flash-attn off`): "
            f"within {parity.exact.largest:.1e}"
        )
    lines.append(
        f"- the label that it writes is the one with the highest probability on "
        f"{parity.written:.0%} of some rows; what was evaluated is the highest probability"
    )
    return lines
