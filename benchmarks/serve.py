"""How fast an export scores labels, compared with plain transformers, on the same rows.

    make bench-serve                      the comparison
    python benchmarks/serve.py --rows 20  a rehearsal, without usable ratios

A student of T5-small's shape with new weights, real ANLI rows, two threads; three labels, and 77
made-up ones of three tokens each. Each contender runs in a process of its own, one after the other:

transformers  fp32, batches of rows of similar length, each input encoded once, one decoder forward
              pass over all labels
export        the OpenVINO graph that `tutelage export` writes, through the same class that
              `tutelage predict` and `tutelage serve` use; f32, and with int8 weights. (New weights
              mean nothing, so only the f32 one passes the parity gate here.)

rows/s   of a whole list of rows, without loading
ms       median of rows predicted one by one
peak MB  resident set of the whole process, as the system counts it

Needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGETS = {"rows/s": 2.0, "ms": 1 / 3, "peak MB": 1 / 2}
ONE_BY_ONE = 15
BATCH = 16


def labels_of(count: int) -> tuple[str, ...]:
    if count == 3:
        return ("entailment", "neutral", "contradiction")
    words = ["man", "city", "film", "music", "river", "school", "album", "season", "team"]
    pairs = [f"{one} {other}" for one in words for other in words if one != other]
    return tuple(sorted(pairs)[: count + 5][:count])


def prepare(folder: Path, count: int) -> None:
    """A checkpoint of that many labels, and its exports, in `folder`."""
    from tutelage.config.export_settings import ExportSettings
    from tutelage.core.checkpoint_record import CheckpointRecord, write_record
    from tutelage.core.export_record import read_export_record, write_export_record
    from tutelage.core.storage import read_jsonl
    from tutelage.core.task import NLI
    from tutelage.core.types import Example
    from tutelage.deliver.exporter import export_model
    from tutelage.deliver.label_engine import GRAPH
    from tutelage.deliver.trained import Student
    from tutelage.student.encoding.prompts import label_ids
    from tutelage.student.inference.label_graph import build_graph, save_graph
    from tutelage.student.model.loading import load_student

    place = folder / str(count)
    student = load_student(str(folder / "setup" / "model"))
    student.objective, student.precision = "label", "fp32"
    student.save(place / "checkpoint")
    labels = labels_of(count)
    task = replace(NLI, labels=labels, spellings={}, relations={}, positions=())
    write_record(
        place / "checkpoint",
        CheckpointRecord(
            task=task, objective="label", max_source_tokens=512, max_rationale_tokens=64,
            tokens_per_micro_batch=4096, precision="fp32", fast="auto", threads=2, settings={},
            data_sha256={}, versions={},
        ),
    )  # fmt: skip
    rows = list(read_jsonl(folder / "setup" / "rows.jsonl"))[:12]
    some = [
        Example(str(n), {"premise": r["premise"], "hypothesis": r["hypothesis"]}, labels[n % 3])
        for n, r in enumerate(rows)
    ]
    export = export_model(place / "checkpoint", place / "f32", ExportSettings(), test=some)
    print(f"{count} labels: probabilities within {export.parity.largest:.1e}", file=sys.stderr)
    shutil.copytree(place / "f32", place / "int8")
    loaded = Student.load(place / "checkpoint").loaded
    save_graph(build_graph(loaded, label_ids(loaded, task)), place / "int8" / GRAPH, int8=True)
    record = read_export_record(place / "f32")
    write_export_record(place / "int8", replace(record, precision="int8"))


def measure(folder: Path, contender: str, count: int, rows: int) -> dict[str, float]:
    """One contender's figures, in this process."""
    sources = json.loads((folder / "sources.json").read_text(encoding="utf-8"))[:rows]
    place = folder / str(count)
    if contender == "transformers":
        run = plain(place / "checkpoint", count)
    else:
        from tutelage.core.types import Example
        from tutelage.deliver.exported import ExportedModel

        model = ExportedModel.load(place / contender)

        def run(texts: Sequence[Any]) -> None:
            examples = [Example(str(n), fields, "") for n, fields in enumerate(texts)]
            model.score(examples)

    run(sources[:4])
    begun = time.perf_counter()
    run(sources)
    throughput = len(sources) / (time.perf_counter() - begun)
    seconds = []
    for source in sources[:ONE_BY_ONE]:
        begun = time.perf_counter()
        run([source])
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows/s": throughput, "ms": 1000 * statistics.median(seconds), "peak MB": peak}


def plain(checkpoint: Path, count: int) -> Callable[[Sequence[Any]], None]:
    """Labels by transformers alone."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    torch.set_num_threads(2)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = [tokenizer(label, add_special_tokens=False).input_ids for label in labels_of(count)]
    width = max(map(len, ids))
    targets = torch.tensor([[*one, *[0] * (width - len(one))] for one in ids])
    mask = torch.tensor([[1.0] * len(one) + [0.0] * (width - len(one)) for one in ids])
    start = torch.full((len(ids), 1), model.config.decoder_start_token_id)
    decoder = torch.cat([start, targets[:, :-1]], dim=1)

    def run(rows: Sequence[Any]) -> None:
        texts = [f"Premise: {row['premise']} Hypothesis: {row['hypothesis']}" for row in rows]
        texts.sort(key=len)
        # 77 labels of a large batch would need gigabytes of logits.
        size = BATCH if count < 10 else 2
        for first in range(0, len(texts), size):
            batch = tokenizer(texts[first : first + size], padding=True, return_tensors="pt")
            some = len(batch.input_ids)
            with torch.no_grad():
                states = model.get_encoder()(**batch).last_hidden_state
                logits = model(
                    encoder_outputs=(states.repeat_interleave(len(ids), 0),),
                    attention_mask=batch.attention_mask.repeat_interleave(len(ids), 0),
                    decoder_input_ids=decoder.repeat(some, 1),
                    use_cache=False,
                ).logits
                found = logits.log_softmax(-1).gather(-1, targets.repeat(some, 1)[..., None])
                (found[..., 0] * mask.repeat(some, 1)).sum(1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--prepare", nargs=2)
    parser.add_argument("--measure", nargs=4)
    options = parser.parse_args()
    if options.prepare:
        prepare(Path(options.prepare[0]), int(options.prepare[1]))
        return
    if options.measure:
        folder, contender, count, rows = options.measure
        print(json.dumps(measure(Path(folder), contender, int(count), int(rows))))
        return
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    here = [sys.executable, str(Path(__file__).resolve())]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        setup = folder / "setup"
        setup.mkdir()
        subprocess.run([sys.executable, str(HERE / "train_setup.py"), str(setup)], check=True)
        lines = (setup / "rows.jsonl").read_text(encoding="utf-8").splitlines()[: options.rows]
        rows = [json.loads(line) for line in lines]
        (folder / "sources.json").write_text(
            json.dumps([{k: r[k] for k in ("premise", "hypothesis")} for r in rows]),
            encoding="utf-8",
        )
        print("| labels | contender | rows/s | ms a row | peak MB |\n|---|---|---|---|---|")
        missed = []
        for count in (3, 77):
            subprocess.run([*here, "--prepare", str(folder), str(count)], check=True)
            found: dict[str, dict[str, float]] = {}
            for contender in ("transformers", "f32", "int8"):
                some = options.rows if count == 3 else max(8, options.rows // 4)
                done = subprocess.run(
                    [*here, "--measure", str(folder), contender, str(count), str(some)],
                    check=True, capture_output=True, text=True, env=environment,
                )  # fmt: skip
                found[contender] = json.loads(done.stdout.splitlines()[-1])
                figures = found[contender]
                print(
                    f"| {count} | {contender} | {figures['rows/s']:.1f} | {figures['ms']:.0f} | "
                    f"{figures['peak MB']:.0f} |",
                    flush=True,
                )
            for contender in ("f32", "int8"):
                for name, target in TARGETS.items():
                    ratio = found[contender][name] / found["transformers"][name]
                    met = ratio >= target if name == "rows/s" else ratio <= target
                    if not met:
                        missed.append(
                            f"{count} labels, {contender}: {name} is {ratio:.2f} times that of "
                            f"transformers, the aim is {target:.2f}"
                        )
        print("\n".join(missed) or "every aim is met")


if __name__ == "__main__":
    main()
