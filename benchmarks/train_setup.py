"""Prepares what all contenders of `train.py` get: the same rows, tokenizer and weights.

    python train_setup.py FOLDER

Runs once, in a process of its own (a child's peak memory is never reported lower than its
parent's). Writes `model/` (new weights of T5-small's shape and a tokenizer), `rows.jsonl` and
`facts.json` to FOLDER.

ANLI's training split is not available. Rows of its round 1 dev and test, with ChatGPT's recorded
reasoning, are drawn repeatedly until there are as many as that split has, so that each contender's
length grouping has as much to choose from as in a real training.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from tutelage.core.storage import read_jsonl, write_json, write_jsonl
from tutelage.core.types import Example
from tutelage.student.encoding.targets import SEPARATOR

TEACHER = "informed_reasoning/gpt-3.5-turbo-0125"
ROWS = 16_946
"""Rows of ANLI R1's training split."""

PIECES = 2_700
"""Vocabulary of the tokenizer, which is trained on the rows' sources. T5's own (32,000 pieces, from
web text) cuts these rows, which are full of names, into some 128 and 137 pieces; 32,000 pieces
trained on these rows would give far fewer. With this vocabulary the lengths are like T5's (the
table prints them). The embedding and the head have T5's 32,128 rows nevertheless."""

LABELS = {
    "entailment": ["▁", "en", "tail", "ment"],
    "neutral": ["▁neutral"],
    "contradiction": ["▁contradiction"],
}
"""How T5's own tokenizer cuts the labels: ids 3 35 5756 297, 7163 and 27252 of its vocabulary."""

VOCABULARY = 32_128
SHAPE = {
    "vocab_size": VOCABULARY,
    "d_model": 512,
    "d_ff": 2048,
    "d_kv": 64,
    "num_heads": 8,
    "num_layers": 6,
    "num_decoder_layers": 6,
    "dropout_rate": 0.1,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
"""google-t5/t5-small's configuration."""


def shared_data() -> Path:
    """The folder of recorded data, which is not part of the project."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("TUTELAGE_SHARED_DATA", root / "../shared/data"))
    if not (folder / "anli" / "r1_dev.jsonl").exists():
        raise SystemExit(
            f"no recorded ANLI rows in {folder}: set TUTELAGE_SHARED_DATA to the folder that holds "
            "anli/r1_dev.jsonl and anli/r1_test.jsonl with their rationales"
        )
    return folder


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled pair and its recorded reasoning."""

    uid: str
    premise: str
    hypothesis: str
    label: str
    reasoning: str

    @property
    def example(self) -> Example:
        return Example(
            self.uid, {"premise": self.premise, "hypothesis": self.hypothesis}, self.label
        )

    @property
    def source(self) -> str:
        """A student's input."""
        return f"Premise: {self.premise} Hypothesis: {self.hypothesis}"

    @property
    def target(self) -> str:
        """A student's target."""
        return f"{self.label} {SEPARATOR} {self.reasoning}"


def recorded_rows(folder: Path) -> Iterator[Row]:
    """The rows of ANLI R1 dev and test that have a recorded reasoning."""
    for name in ("r1_dev", "r1_test"):
        for row in read_jsonl(folder / "anli" / f"{name}.jsonl"):
            reasoning = row["rationales"].get(TEACHER)
            if reasoning:
                texts = (" ".join(text.split()) for text in (row["premise"], row["hypothesis"]))
                yield Row(row["uid"], *texts, row["label"], " ".join(reasoning.split()))


def make_tokenizer(texts: Sequence[str], folder: Path) -> None:
    """A unigram tokenizer like T5's: `<pad>` 0, `</s>` 1 at the end of each text, `<unk>` 2, and
    labels in T5's own pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    scores = dict(model["vocab"])
    # More probable than any other pieces of these words, and rare in other words.
    scores |= {piece: -1.0 for pieces in LABELS.values() for piece in pieces if len(piece) > 2}
    tokenizer.model = models.Unigram(list(scores.items()), model["unk_id"], model["byte_fallback"])
    for label, pieces in LABELS.items():
        if (found := tokenizer.encode(label, add_special_tokens=False).tokens) != pieces:
            raise SystemExit(f"{label!r} is cut into {found} here, into {pieces} by T5")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def make_model(folder: Path) -> None:
    """New weights of T5-small's shape."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**SHAPE)).save_pretrained(folder)


def read_rows(folder: Path) -> list[Row]:
    """The rows that `main` wrote."""
    return [Row(**row) for row in read_jsonl(folder / "rows.jsonl")]


def drawn(found: list[Row]) -> list[Row]:
    """As many rows as ANLI R1's training split has, drawn repeatedly, in a random order."""
    rng = random.Random(0)
    order = [row for _ in range(-(-ROWS // len(found))) for row in rng.sample(found, len(found))]
    return [replace(row, uid=f"{number}/{row.uid}") for number, row in enumerate(order[:ROWS])]


def main(folder: Path) -> None:
    found = list(recorded_rows(shared_data()))
    make_tokenizer([row.source for row in found], folder / "model")
    make_model(folder / "model")
    rows = drawn(found)
    write_jsonl(folder / "rows.jsonl", rows)
    write_json(folder / "facts.json", facts(folder, rows))


def facts(folder: Path, rows: Sequence[Row]) -> dict[str, float | str | None]:
    """Mean lengths and the work of a mean row; the machine's GPU and the versions."""
    import torch
    import transformers
    from train_measure import flops
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    sources = [len(ids) for ids in tokenizer([row.source for row in rows]).input_ids]
    targets = [len(ids) for ids in tokenizer([row.target for row in rows]).input_ids]
    return {
        "rows": len(rows),
        "source": mean(sources),
        "target": mean(targets),
        "flops": mean(map(flops, sources, targets)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
