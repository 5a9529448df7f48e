"""What `pip install tutelage` alone can do, and what it says about the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tutelage.core.errors import EXTRAS

sys.path.append(str(Path(__file__).parents[1] / "report"))

from report_sample import sample_predictions, write_folder

WITHOUT = sorted(
    {*EXTRAS["train"], *EXTRAS["local"], "huggingface_hub", "pandas", "sklearn", "tensorboard"}
)

HIDE = f"""\
import sys

HIDDEN = {WITHOUT!r}


class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *where):
        if name.partition(".")[0] not in HIDDEN:
            return self.finder.find_spec(name, *where)

    def find_distributions(self, context):
        if context.name not in HIDDEN and hasattr(self.finder, "find_distributions"):
            return self.finder.find_distributions(context)
        return ()

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""

FORKS = """\
import json, os, runpy, sys, traceback
import matplotlib.figure, matplotlib.backends.backend_svg, numpy, scipy.stats
import tutelage.cli.main

def run(kind, what, *arguments):
    sys.argv = [what if kind == "-m" else kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})

for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(call["cwd"])
        for number, path in enumerate((os.devnull, call["out"], call["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        code = 0
        try:
            run(*call["arguments"])
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Reads calls from its standard input, runs each in a fork of itself, and prints its exit code."""

Bare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Python as it is after `pip install tutelage` alone. It is started once: a call is a fork of
    it, and need not import again what all calls do."""
    folder = tmp_path_factory.mktemp("hiding")
    (folder / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    source = Path(__file__).parents[2] / "src"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TUTELAGE")}
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env={**environment, "PYTHONPATH": os.pathsep.join(map(str, (folder, source)))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def python(
    interpreter: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Bare:
    """`python ARGUMENTS` in the test's folder, after `pip install tutelage` alone."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        folder = tmp_path_factory.mktemp("written")
        out, err = folder / "out", folder / "err"
        call = {"arguments": words, "cwd": str(tmp_path), "out": str(out), "err": str(err)}
        assert interpreter.stdin is not None and interpreter.stdout is not None
        print(json.dumps(call), file=interpreter.stdin, flush=True)
        code = int(interpreter.stdout.readline())
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
        return subprocess.CompletedProcess(words, code, *texts)

    return run


@pytest.fixture
def bare(python: Bare) -> Bare:
    return lambda *arguments: python("-m", "tutelage", *arguments)


@pytest.fixture
def recipe(small_recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(small_recipe(**changes)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [
        {"premise": f"Premise {n}.", "hypothesis": "So.", "label": label, "reason": "Because."}
        for n, label in enumerate(("entailment", "neutral", "contradiction") * 4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def names_the_extra(done: subprocess.CompletedProcess[str], *, package: str = "torch") -> None:
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert f"needs the package {package!r}" in lines[0]
    assert "pip install 'tutelage[train]'" in lines[0]
    assert done.returncode == 2 and not done.stdout


def test_nothing_of_the_extras_can_be_imported(python: Bare) -> None:
    code = (
        "import importlib.util, importlib.metadata as m\n"
        f"for name in {WITHOUT!r}: assert importlib.util.find_spec(name) is None, name\n"
        "try: m.version('torch')\n"
        "except m.PackageNotFoundError: print('hidden', m.version('typer') > '')\n"
    )
    assert python("-c", code).stdout == "hidden True\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "recipe.yaml"),
        ("train", "recipe.yaml"),
        ("train", "rows.jsonl", "--dev", "rows.jsonl"),
        ("predict", "student/model", "rows.jsonl"),
        ("audit", "recipe.yaml"),
        ("audit", "rows.jsonl", "--student", "t5-small"),
    ],
    ids=" ".join,
)
def test_a_command_without_its_extra_ends_in_one_line(
    bare: Bare, recipe: Callable[..., Path], rows: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    recipe()
    names_the_extra(bare(*arguments))
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", "rows.jsonl"}


def test_a_parquet_file_names_the_extra(
    bare: Bare, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    path = recipe(data={"train": "rows.parquet", "dev": 10, "test": 10})
    names_the_extra(bare("run", path))
    planned = bare("plan", path)
    assert planned.returncode == 2 and "Traceback" not in planned.stderr
    assert "loading rows.parquet needs the package 'pyarrow'" in planned.stderr
    assert "pip install 'tutelage[train]'" in planned.stderr


def test_annotate_and_plan_need_no_extra(
    bare: Bare, recipe: Callable[..., Path], rows: Path, tmp_path: Path
) -> None:
    path = recipe()
    planned = bare("plan", path)
    assert planned.returncode == 0, planned.stderr
    annotated = bare("annotate", path)
    assert annotated.returncode == 0, annotated.stderr
    written = tmp_path / "runs" / "small" / "rationales" / "reasoning.jsonl"
    assert len(written.read_text(encoding="utf-8").splitlines()) == 90
    own = bare("annotate", rows, "--strategy", "human", "--output", "own.jsonl")
    assert own.returncode == 0, own.stderr
    assert len((tmp_path / "own.jsonl").read_text(encoding="utf-8").splitlines()) == 12


def test_the_ledger_needs_no_extra(bare: Bare, python: Bare) -> None:
    made = python("-c", "from tutelage import Ledger; Ledger('paid.sqlite').close()")
    assert made.returncode == 0, made.stderr
    shown = bare("ledger", "show", "--ledger", "paid.sqlite")
    assert shown.returncode == 0, shown.stderr


def test_the_commands_about_results_need_no_extra(bare: Bare, tmp_path: Path) -> None:
    arms = {"labels": 0.0, "informed-reasoning": 0.1}
    for name in ("a", "b"):
        write_folder(tmp_path / "runs" / name, sample_predictions(60, 3, arms, ord(name)))
    config = tmp_path / "runs" / "a" / "arms" / "{}" / "lr-0.003_w-1"
    places = [str(config).format(arm) for arm in arms]
    for arguments in (
        ("evaluate", places[0]),
        ("compare", *places),
        ("compare", "runs/a", "runs/b"),
        ("report", "runs/a"),
        ("runs",),
    ):
        done = bare(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stdout
    assert (tmp_path / "runs" / "a" / "report.html").exists()


def test_doctor_says_what_is_missing(bare: Bare, recipe: Callable[..., Path]) -> None:
    student = {"model": "t5-small", "epochs": 1}
    done = bare("doctor", recipe(student=student))
    assert done.returncode == 1 and not done.stderr
    (extra,) = [line for line in done.stdout.splitlines() if "extra train" in line]
    assert extra.startswith("MISSING extra train: torch, transformers, ")
    assert "pip install 'tutelage[train]'" in extra
    (found,) = [line for line in done.stdout.splitlines() if "student t5-small" in line]
    assert found.startswith("MISSING") and "needs the package 'torch'" in found


@pytest.mark.parametrize(
    "call",
    [
        "tutelage.run(tutelage.load_recipe('quickstart'))",
        "tutelage.train",
        "tutelage.load_student",
        "tutelage.score_labels",
        "tutelage.explain",
    ],
)
def test_python_functions_name_the_extra(python: Bare, call: str) -> None:
    code = (
        "import tutelage\n"
        "from tutelage.core.errors import MissingExtraError\n"
        f"try: {call}\n"
        "except MissingExtraError as error: print(error.package, error.extra)\n"
    )
    done = python("-c", code)
    assert done.stdout == "torch train\n", done.stderr


def test_the_other_python_functions_need_no_extra(python: Bare) -> None:
    code = (
        "import tutelage\n"
        "needs = {'train', 'load_student', 'score_labels', 'explain'}\n"
        "for name in set(tutelage.__all__) - needs: getattr(tutelage, name)\n"
        "print('ok')\n"
    )
    assert python("-c", code).stdout == "ok\n"
