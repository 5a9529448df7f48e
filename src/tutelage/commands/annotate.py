"""`tutelage annotate`: rationales for a file of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer


def command(
    data: Annotated[str, typer.Argument(help="A data file, hf:NAME#SPLIT, or a recipe (.yaml).")],
    output: Annotated[
        Path | None, typer.Option(help="Where rationales go (a recipe: its run folder).")
    ] = None,
    strategy: Annotated[str, typer.Option(help="How the teacher is asked.")] = "informed_reasoning",
    teacher: Annotated[
        str | None, typer.Option(help="Who is asked: openai:MODEL, gguf:PATH, recorded:FILE#KEY…")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible server, with its /v1.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Sent if set.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Sent if set.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions in flight at once.")] = 8,
    budget_usd: Annotated[
        float | None, typer.Option(help="Charge at most this; needs --max-tokens.")
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(help="Keep to it (the server's headers say it otherwise).")
    ] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="Likewise.")] = None,
    mode: Annotated[
        str, typer.Option(help="live, or batch: half the price, within a day.")
    ] = "live",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave open batches: a later call collects them.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option(help="Ask again what is known to have failed for good.")
    ] = False,
    template: Annotated[
        Path | None, typer.Option(help="A Jinja file, for --strategy template.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Where paid answers are kept (TUTELAGE_LEDGER).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs.")] = Path("runs"),
) -> None:
    """Ask the teacher for a rationale for each NLI example of a file, or for a recipe's arms.

    Answers are kept as they arrive: the same command again asks only what is missing. Ctrl-C lets
    what is under way come home; a second one stops at once. Exit code 1 where rows are left without
    an answer, 130 after Ctrl-C.

    Example: `tutelage annotate train.jsonl --teacher openai:gpt-4.1-mini --output rationales.jsonl`
    """
    from tutelage.commands.terminal import Bars
    from tutelage.errors import UsageError
    from tutelage.preparation import annotate_file, annotate_recipe
    from tutelage.teacher.base import Mode, TeacherSettings

    with Bars() as bars:
        if data.endswith((".yaml", ".yml")):
            from tutelage.recipe_file import load_recipe

            done = annotate_recipe(
                load_recipe(data), runs, ledger, bars, retry_failed=retry_failed, wait=not no_wait
            )
        else:
            if teacher is None and strategy != "human":
                raise UsageError("no teacher: name one with --teacher, such as openai:MODEL")
            chosen = get_args(Mode)
            if mode not in chosen:
                raise UsageError(f"--mode {mode}: expected one of {', '.join(chosen)}")
            settings = None
            if teacher is not None:
                settings = TeacherSettings(
                    model=teacher,
                    base_url=base_url,
                    temperature=temperature,
                    max_tokens=max_tokens,
                    concurrency=concurrency,
                    budget_usd=budget_usd,
                    requests_per_minute=requests_per_minute,
                    tokens_per_minute=tokens_per_minute,
                    mode=cast(Mode, mode),
                )
            text = None if template is None else template.read_text(encoding="utf-8")
            path = output or Path("rationales.jsonl")
            done = annotate_file(
                data,
                strategy,
                text,
                settings,
                path,
                ledger,
                bars,
                retry_failed=retry_failed,
                wait=not no_wait,
            )
    failed = 0
    for path, summary in done.items():
        counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
        cost = "" if not summary.cost_usd else f"; ${summary.cost_usd:.4f}"
        print(f"{path}: {counts}; {summary.requests} asked, {summary.cached} known{cost}")
        for reason, count in summary.failures.items():
            print(f"  failed: {count} rows: {reason}")
        failed += summary.counts["failed"]
    if failed:
        from tutelage.commands.terminal import complain

        complain(
            f"{failed} rows have no answer (why stands in the file): the same command tries those "
            "again that may go better, --retry-failed all of them"
        )
        raise typer.Exit(1)


command.__name__ = "annotate"
