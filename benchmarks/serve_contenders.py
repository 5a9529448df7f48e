"""The contenders of `serve.py`: each is a function from rows to scores of labels.

A contender gets the folder that `serve.py` prepared for a number of labels, and returns a function
of rows (fields by name) that gives log p(label | row), summed over the label's tokens: [rows,
labels], in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Scorer = Callable[[Sequence[dict[str, str]]], Scores]

BATCH, FEW = 16, 2
"""Rows of a batch of plain transformers; with many labels, whose logits would need gigabytes."""

THREADS = 2


def plain(place: Path, *, bf16: bool) -> Scorer:
    """transformers alone: rows of similar length together, each input computed once, one forward
    pass over all labels of a batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from tutelage.deliver.exported import ExportedModel

    torch.set_num_threads(THREADS)
    encoder = ExportedModel.load(place / "f32")  # its tokenizer; the graph is not loaded
    translates = encoder.architecture == "encoder-decoder"
    kind = AutoModelForSeq2SeqLM if translates else AutoModelForCausalLM
    dtype = torch.bfloat16 if bf16 else torch.float32
    model: Any = kind.from_pretrained(place / "checkpoint", dtype=dtype).eval()
    labels = [list(ids) for ids in encoder.record.label_ids]
    width = max(map(len, labels))
    ids = torch.tensor([[*one, *[0] * (width - len(one))] for one in labels])
    mask = torch.tensor([[1.0] * len(one) + [0.0] * (width - len(one)) for one in labels])

    def summed(logits: Any, rows: int) -> Any:
        """[rows · labels, tokens, vocabulary] -> [rows, labels]"""
        found = logits.float().log_softmax(-1).gather(-1, ids.repeat(rows, 1)[..., None])[..., 0]
        return (found * mask.repeat(rows, 1)).sum(1).view(rows, len(labels))

    def seq2seq(inputs: Any, attention: Any) -> Any:
        rows = len(inputs)
        start = torch.full((len(labels), 1), model.config.decoder_start_token_id)
        decoder = torch.cat([start, ids[:, :-1]], dim=1)
        states = model.get_encoder()(input_ids=inputs, attention_mask=attention).last_hidden_state
        logits = model(
            encoder_outputs=(states.repeat_interleave(len(labels), 0),),
            attention_mask=attention.repeat_interleave(len(labels), 0),
            decoder_input_ids=decoder.repeat(rows, 1),
            use_cache=False,
        ).logits
        return summed(logits, rows)

    def causal(inputs: Any, attention: Any) -> Any:
        rows, lengths = len(inputs), attention.sum(1)
        base = model.base_model(input_ids=inputs, attention_mask=attention, use_cache=True)
        last = base.last_hidden_state[torch.arange(rows), lengths - 1]
        first = model.get_output_embeddings()(last)[:, None].repeat_interleave(len(labels), 0)
        if width == 1:
            return summed(first, rows)
        cache = base.past_key_values
        cache.batch_repeat_interleave(len(labels))
        more = ids[:, :-1].repeat(rows, 1)
        seen = attention.repeat_interleave(len(labels), 0)
        places = lengths.repeat_interleave(len(labels))[:, None] + torch.arange(width - 1)
        logits = model(
            input_ids=more,
            attention_mask=torch.cat([seen, torch.ones_like(more)], 1),
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
        ).logits
        return summed(torch.cat([first, logits], 1), rows)

    compute = seq2seq if translates else causal
    size = BATCH if len(labels) < 10 else FEW

    def run(rows: Sequence[dict[str, str]]) -> Scores:
        inputs = _inputs(encoder, rows)
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
        found = np.empty((len(rows), len(labels)))
        for first in range(0, len(order), size):
            part = order[first : first + size]
            longest = max(len(inputs[i]) for i in part)
            padded = [inputs[i] + [0] * (longest - len(inputs[i])) for i in part]
            seen = [[1] * len(inputs[i]) + [0] * (longest - len(inputs[i])) for i in part]
            with torch.no_grad():
                found[part] = compute(torch.tensor(padded), torch.tensor(seen)).numpy()
        return found

    return run


def exported(folder: Path) -> Scorer:
    """An export, through the class that `tutelage predict` and `tutelage serve` use."""
    from tutelage.core.types import Example
    from tutelage.deliver.exported import ExportedModel

    model = ExportedModel.load(folder)

    def run(rows: Sequence[dict[str, str]]) -> Scores:
        examples = [Example(str(n), row, "") for n, row in enumerate(rows)]
        encoded = model.encode(examples)
        scores = model.scores(encoded)
        model.predictions(examples, encoded, scores)
        return scores

    return run


def with_ctranslate2(place: Path, folder: Path) -> Scorer:
    """CTranslate2's `score_batch`, which computes the input anew for each label."""
    from tutelage.deliver.exported import ExportedModel
    from tutelage.deliver.rationale_engine import RationaleEngine

    model = ExportedModel.load(place / "f32")
    engine = RationaleEngine(folder, model.tokenizer, model.architecture)
    labels = [list(ids) for ids in model.record.label_ids]

    def run(rows: Sequence[dict[str, str]]) -> Scores:
        sources = [ids for ids in _inputs(model, rows) for _ in labels]
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found = np.empty(len(sources))
        for first in range(0, len(order), 3 * BATCH):
            part = order[first : first + 3 * BATCH]
            targets = [labels[i % len(labels)] for i in part]
            logs = engine.log_probabilities([sources[i] for i in part], targets)
            found[part] = [sum(one) for one in logs]
        return found.reshape(len(rows), len(labels))

    return run


def with_llama_cpp(place: Path, file: Path) -> Scorer:
    """llama.cpp's server in this process, a request for each token of a label."""
    from tutelage.deliver.exported import ExportedModel
    from tutelage.deliver.gguf.llama_server import LlamaServer

    model = ExportedModel.load(place / "f32")
    labels = [list(ids) for ids in model.record.label_ids]
    server = LlamaServer(file, model.record.max_source_tokens + 16, exact=False)

    def run(rows: Sequence[dict[str, str]]) -> Scores:
        return server.scores(_inputs(model, rows), labels)

    return run


def _inputs(model: Any, rows: Sequence[dict[str, str]]) -> list[list[int]]:
    """Token ids of rows, by an export's own tokenizer."""
    from tutelage.core.types import Example

    return [one.ids for one in model.encode([Example("", row, "") for row in rows])]


def contender(place: Path, name: str) -> Scorer:
    """The contender of that name."""
    if name.startswith("transformers"):
        return plain(place, bf16=name.endswith("bf16"))
    if name.startswith("ctranslate2"):
        return with_ctranslate2(place, place / name)
    if name.startswith("llama.cpp"):
        return with_llama_cpp(place, place / name / "model.gguf")
    return exported(place / name)
