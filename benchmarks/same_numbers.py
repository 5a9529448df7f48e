"""Compare the numbers of two revisions: print a digest of each test.jsonl of small recipes.

    python benchmarks/same_numbers.py > before.txt      at one revision
    python benchmarks/same_numbers.py > after.txt       at the other; then compare the two files

The recipes cover both architectures, every objective, and LoRA, with `fast: off`, so that a change
of `student/fast/` is not measured. Each line is

    RECIPE ARM CONFIGURATION SEED SHA-256

One thread, about two minutes. Equal files mean bit-equal numbers. Between machines, or versions of
torch, numbers may differ without a fault.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

STEPS = 20
TRAIN = "synthetic:nli?n=120&seed=1"
DEV = "synthetic:nli?n=30&seed=2"
TEST = "synthetic:nli?n=30&seed=3"
OBJECTIVES = ("label_then_rationale", "rationale_then_label", "multitask")
"""The objective `label` is that of the arm without a strategy."""


def make_llama(folder: Path) -> None:
    """Save a Llama of two layers, whose tokenizer is trained on the training rows, in `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, logging

    from tutelage import NLI, load_examples

    rows = list(load_examples(TRAIN, NLI))
    texts = [" ".join([*row.fields.values(), row.label, row.reason or ""]) for row in rows]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    loaded = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )
    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(loaded),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=loaded.eos_token_id,
        eos_token_id=loaded.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    loaded.save_pretrained(folder)


def recipes(llama: Path) -> Iterator[dict[str, Any]]:
    """The recipes, by architecture and way of training."""
    yield _recipe("encoder-decoder", {"model": "scratch:t5-tiny"})
    yield _recipe("decoder-only", {"model": str(llama)})
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
    yield _recipe("lora", {"model": str(llama), "lora": lora})


def _recipe(name: str, student: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "data": {"train": TRAIN, "dev": DEV, "test": TEST},
        "teacher": "scripted",
        "student": {
            **student,
            "fast": "off",
            "max_steps": STEPS,
            "batch_size": 16,
            "epochs": 3,
            "warmup_steps": 2,
            "evaluate_every": 10,
            "dropout": 0.1,
            "max_rationale_tokens": 32,
        },
        "arms": [
            {"name": "label"},
            *(
                {"name": objective, "strategy": "informed_reasoning", "objective": objective}
                for objective in OBJECTIVES
            ),
        ],
        "search": {"learning_rate": [3e-3], "label_weight": [0.3]},
        "seeds": [0, 1],
        "controls": ["shuffled"],
        "baselines": [],
        "explain_rows": 0,
        "departures": {
            "controls": "this recipe compares revisions, not arms",
            "baselines": "this recipe compares revisions, not arms",
        },
    }


def digests(folder: Path) -> Iterator[str]:
    """A line for each test.jsonl of a run."""
    for path in sorted(folder.glob("arms/*/*/seed-*/test.jsonl")):
        seed, configuration, arm = (part.name for part in path.parents[:3])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield f"{folder.name} {arm} {configuration} {seed} {digest}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="run only one recipe: encoder-decoder, decoder-only or lora")
    given = parser.parse_args()

    import torch

    from tutelage import parse_recipe, run

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        make_llama(home / "llama")
        for recipe in recipes(home / "llama"):
            if given.only in (None, recipe["name"]):
                done = run(
                    parse_recipe(recipe), runs=home, ledger=home / "ledger.sqlite", workers=1
                )
                for line in digests(done.folder):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
