"""`tutelage annotate`: rationales for a file of examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

if TYPE_CHECKING:
    from tutelage.teacher.annotate import Summary


def command(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A data file, hf:NAME#SPLIT, or a recipe (.yaml).")],
    output: Annotated[
        Path, typer.Option(help="Where the rationales of a file go, a line each.")
    ] = Path("rationales.jsonl"),
    strategy: Annotated[
        str,
        typer.Option(help="informed_reasoning, information_extraction, template or human."),
    ] = "informed_reasoning",
    teacher: Annotated[
        str | None,
        typer.Option(help="openai:MODEL, gguf:PATH, package:PACKAGE/FILE or recorded:FILE#KEY."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible server, with its /v1.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="The environment variable that holds the server's key.")
    ] = "OPENAI_API_KEY",
    temperature: Annotated[
        float | None, typer.Option(help="Of sampling; not set: the teacher's own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling; not set: none is sent.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Of one answer; not set: the teacher's own limit.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions in flight at most.")] = 8,
    budget_usd: Annotated[
        float | None, typer.Option(help="Charge at most this; needs --max-tokens.")
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(help="At most; not set: as the server's headers say.")
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(help="At most; not set: as the server's headers say.")
    ] = None,
    mode: Annotated[
        str, typer.Option(help="live, or batch: half the price, within a day.")
    ] = "live",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave open batches: a later call collects them.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what has failed for good.")
    ] = False,
    template: Annotated[
        Path | None, typer.Option(help="A Jinja file, for --strategy template.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Where paid answers are kept (TUTELAGE_LEDGER).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder that holds a recipe's runs.")] = Path(
        "runs"
    ),
) -> None:
    """Ask the teacher for a rationale for each NLI example of a file, or for a recipe's arms.

    Answers are kept as they arrive: the same command again asks only what is missing. Ctrl-C lets
    what is under way come home; a second one stops at once. Exit code 1 where rows are left without
    an answer, 130 after Ctrl-C.

    Example: `tutelage annotate train.jsonl --teacher openai:gpt-4.1-mini --output rationales.jsonl`
    """
    from tutelage.cli.terminal import Bars
    from tutelage.core.errors import UsageError
    from tutelage.experiment.prepare import annotate_file, annotate_recipe
    from tutelage.teacher.teacher import Mode, TeacherSettings

    given = {name for name in context.params if _was_given(context, name)}
    with Bars() as bars:
        if data.endswith((".yaml", ".yml")):
            from tutelage.config.recipe_file import load_recipe

            # Silently ignored, it would be asked, and paid for, in another way than was meant.
            if wrong := sorted(given - _WITH_A_RECIPE):
                raise UsageError(
                    f"{_option(wrong[0])} is for a data file: a recipe says it itself, so change "
                    f"it in {data}"
                )
            done = annotate_recipe(
                load_recipe(data), runs, ledger, bars, retry_failed=retry_failed, wait=not no_wait
            )
        else:
            if "runs" in given:
                raise UsageError("--runs is for a recipe: a data file's rationales go to --output")
            if teacher is None and strategy != "human":
                raise UsageError(
                    "no teacher: name one with --teacher, such as openai:MODEL for a server or "
                    "gguf:PATH for a model file"
                )
            chosen = get_args(Mode)
            if mode not in chosen:
                raise UsageError(f"--mode {mode}: expected one of {', '.join(chosen)}")
            settings = None
            if teacher is not None:
                settings = TeacherSettings(
                    model=teacher,
                    base_url=base_url,
                    api_key_env=api_key_env,
                    temperature=temperature,
                    seed=seed,
                    max_tokens=max_tokens,
                    concurrency=concurrency,
                    budget_usd=budget_usd,
                    requests_per_minute=requests_per_minute,
                    tokens_per_minute=tokens_per_minute,
                    mode=cast(Mode, mode),
                )
            text = None if template is None else template.read_text(encoding="utf-8")
            done = annotate_file(
                data,
                strategy,
                text,
                settings,
                output,
                ledger,
                bars,
                retry_failed=retry_failed,
                wait=not no_wait,
            )
    unanswered = sum(_show(path, summary) for path, summary in done.items())
    if unanswered:
        from tutelage.cli.terminal import complain

        complain(
            f"{_rows(unanswered)} no answer: the same command asks those again that may go better, "
            "--retry-failed all of them; the reason of each stands in its line of the file"
        )
        raise typer.Exit(1)


_WITH_A_RECIPE = {"data", "runs", "ledger", "no_wait", "retry_failed"}


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _show(path: Path, summary: Summary) -> int:
    """Say what came of one file of rationales; how many of its rows have no answer."""
    from tutelage.cli.terminal import complain

    counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items() if count)
    cost = "" if not summary.cost_usd else f"; ${summary.cost_usd:.4f}"
    print(f"{path}: {counts or 'no rows'}; {summary.requests} asked, {summary.cached} known{cost}")
    for reason, count in summary.failures.items():
        print(f"  {count} failed: {reason}: {summary.examples[reason]}")
    for reason, count in summary.unparsable.items():
        print(f"  {count} failed: an answer that cannot be read: {reason}")
    if cut := summary.counts["truncated"]:
        complain(
            f"{_rows(cut)} an answer that was cut at the limit of tokens: no student learns from "
            "it. With a larger max_tokens every row is a new question",
            label="note",
        )
    return sum(summary.failures.values())


def _rows(count: int) -> str:
    return "1 row has" if count == 1 else f"{count} rows have"


command.__name__ = "annotate"
