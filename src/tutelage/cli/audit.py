"""`tutelage audit`: lengths under the student's own tokenizer, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from tutelage.cli.terminal import Bars
    from tutelage.student.encoding.token_lengths import Audit, Cut, Lengths


def command(
    data: Annotated[
        str, typer.Argument(help="A recipe; with --student NLI rows: a file or hf:NAME#SPLIT.")
    ],
    student: Annotated[
        str | None, typer.Option(help="A hub name or folder, gguf:…, package:…, scratch:t5-tiny.")
    ] = None,
    rationales: Annotated[
        Path | None, typer.Option(help="A file of rows: what `tutelage annotate` wrote for it.")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="A file of rows: label, label_then_rationale, rationale_then_label or multitask."
        ),
    ] = None,
    max_source_tokens: Annotated[
        int | None, typer.Option(min=8, help="A file of rows: where inputs are cut (512).")
    ] = None,
    max_rationale_tokens: Annotated[
        int | None, typer.Option(min=1, help="A file of rows: where rationales are cut (256).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="A recipe: the folder of the runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure every field, input and rationale in the student's tokens, and what would be cut.

    Loads the tokenizer and no weights, trains nothing, asks nobody and writes nothing. A recipe's
    rationales are those in its run folder.

    Example: `tutelage audit recipe.yaml`
    """
    from tutelage.cli.terminal import Bars, print_json

    with Bars() as bars:
        if student is None:
            limits = max_source_tokens, max_rationale_tokens
            audit = _recipe(data, runs, bars, rationales, objective, *limits)
        else:
            asked = {
                "objective": objective,
                "max_source_tokens": max_source_tokens,
                "max_rationale_tokens": max_rationale_tokens,
            }
            audit = _file(data, student, bars, rationales, asked)
    if json:
        print_json(audit)
    else:
        _show(audit)


def _recipe(data: str, runs: Path, bars: Bars, *of_files: object) -> Audit:
    from tutelage.config.recipe_file import load_recipe, packaged_recipes
    from tutelage.core.errors import UsageError
    from tutelage.planning.audit import audit_recipe

    if not data.endswith((".yaml", ".yml")) and data not in packaged_recipes():
        raise UsageError(
            f"{data}: is no recipe (.yaml): for a file of rows name the student with --student"
        )
    if any(option is not None for option in of_files):
        raise UsageError(
            "--rationales, --objective and --max-…-tokens are for files of rows: a recipe says it "
            "itself"
        )
    return audit_recipe(load_recipe(data), runs, bars)


def _file(
    data: str,
    student: str,
    bars: Bars,
    rationales: Path | None,
    asked: Mapping[str, Any],
) -> Audit:
    """asked: of the settings; None where nothing was said"""
    from tutelage.config.recipe_file import packaged_recipes
    from tutelage.config.training_settings import TrainSettings, objective_named
    from tutelage.core.errors import UsageError
    from tutelage.planning.audit import audit_file

    if data.endswith((".yaml", ".yml")) or data in packaged_recipes():
        raise UsageError(f"{data}: a recipe names its own student: leave --student out")
    if asked["objective"] is not None:
        objective_named(asked["objective"])
    settings = TrainSettings(**{k: v for k, v in asked.items() if v is not None})
    return audit_file(data, rationales, student, settings, bars)


def _show(audit: Audit) -> None:
    from rich.markup import escape

    from tutelage.cli.terminal import out_console

    console = out_console()
    table = _table(
        f"Tokens under {escape(audit.student)}'s tokenizer ({audit.vocabulary:,} entries)"
    )
    for split in audit.splits:
        for field, found in split.fields.items():
            _row(table, split.name, escape(field), found)
        _row(table, split.name, "whole input", split.source, split.cut)
    for arm in audit.arms:
        name = escape(arm.name)
        _row(table, name, "label", arm.label)
        if arm.rationale.count:
            _row(table, name, "rationale", arm.rationale, arm.rationales)
    console.print(table)
    for split in audit.splits:
        if split.cut.rows_beyond:
            complaint = f"{split.name}: {split.cut.rows_beyond:,} inputs lose more than the field "
            console.print(complaint + "that is cut first: raise max_source_tokens", markup=False)
    for arm in audit.arms:
        pad = arm.padding
        console.print(
            f"{arm.name}: {pad.share:.1%} of {pad.positions:,} positions an epoch are padding; "
            f"padded to 600 and 400 tokens it would be {pad.fixed_share:.1%} of "
            f"{pad.fixed_positions:,} ({pad.fixed_positions / pad.positions:.1f} times as many)",
            markup=False,
            soft_wrap=True,
        )
    for note in audit.notes:
        console.print(note, markup=False, soft_wrap=True)


def _table(title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("")
    for name in ("rows", "50%", "90%", "95%", "99%", "longest", "limit", "rows cut", "tokens cut"):
        table.add_column(name, justify="right")
    return table


def _row(table: Table, where: str, what: str, found: Lengths, cut: Cut | None = None) -> None:
    numbers = (found.count, found.p50, found.p90, found.p95, found.p99, found.longest)
    lost = () if cut is None else (cut.limit, cut.rows, cut.tokens)
    table.add_row(where, what, *(f"{number:,}" for number in (*numbers, *lost)))


command.__name__ = "audit"
