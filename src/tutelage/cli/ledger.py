"""`tutelage ledger`: show, export, import and prune stored answers; act on open batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tutelage.api import BatchRow, Overview

app = typer.Typer(
    name="ledger",
    no_args_is_help=True,
    help="Show, export, import and prune the answers that were paid for.\n\n"
    "Example: `tutelage ledger show`",
)

LedgerOption = Annotated[
    Path | None,
    typer.Option("--ledger", help="The file that keeps paid answers ($TUTELAGE_LEDGER)."),
]


@app.command()
def show(
    ledger: LedgerOption = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="List each request that failed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Answers, tokens and dollars by teacher and strategy; budgets, open batches, failures.

    Example: `tutelage ledger show --failures`
    """
    from tutelage import api
    from tutelage.cli.terminal import print_json
    from tutelage.core.storage import as_json

    found, lines = api.ledger_overview(ledger, failures=failures)
    if json:
        document = as_json(found)
        print_json({**document, "failed": as_json(lines)} if failures else document)
        return
    _show(found)
    for line in lines:
        print(f"  {line.key[:12]} {line.strategy}: {line.reason}: {line.detail}")


def _show(found: Overview) -> None:
    from rich.markup import escape
    from rich.table import Table

    from tutelage import api
    from tutelage.cli.terminal import out_console

    console = out_console()
    total = sum(group.answers for group in found.answers)
    print(f"{found.path}: {total:,} answers")
    if found.answers:
        table = Table()
        for name in ("teacher", "model", "strategy"):
            table.add_column(name, overflow="fold")
        for name in ("answers", "tokens in", "tokens out", "cost"):
            table.add_column(name, justify="right")
        for group in found.answers:
            table.add_row(
                *(
                    escape(t)
                    for t in (api.short_identity(group.identity), group.model, group.strategy)
                ),
                f"{group.answers:,}",
                f"{group.prompt_tokens:,}",
                f"{group.completion_tokens:,}",
                _usd(group.usd) if group.unpriced < group.answers else "unknown",
            )
        console.print(table)
    uncounted = sum(group.uncounted for group in found.answers)
    if uncounted:
        print(f"{uncounted:,} answers came without token counts")
    for budget in found.budgets:
        if not budget.charged_usd:
            continue  # nothing has a known cost
        parts = [f"{_usd(budget.paid_usd)} paid"]
        if budget.held:
            parts.append(f"{_usd(budget.held_usd)} held for {budget.held:,} requests in flight")
        if budget.lost:
            parts.append(f"{_usd(budget.lost_usd)} for {budget.lost:,} lost requests")
        print(f"budget of {budget.scope}: {_usd(budget.charged_usd)} charged: {', '.join(parts)}")
    for row in found.batches:
        print(_batch_line(row))
    for failed in found.failures:
        kind = "failed permanently" if failed.final else "failed and can be repeated"
        print(
            f"{failed.requests:,} of {failed.strategy} {kind}: {failed.reason}, for example: "
            f"{failed.example}"
        )


def _batch_line(row: BatchRow) -> str:
    import datetime

    begun = datetime.datetime.fromtimestamp(row.created).astimezone().isoformat(" ", "minutes")
    where = f"{row.remote_id} at {row.base_url}" if row.remote_id else f"for {row.base_url}"
    detail = f", {row.detail}" if row.detail else ""
    return (
        f"batch {row.id} ({where}): {row.requests:,} requests to {row.model} for {row.scope}, "
        f"{begun}: {row.state}{detail}"
    )


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="The .jsonl file to write.")],
    ledger: LedgerOption = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Only answers to this strategy; may be repeated.")
    ] = None,
) -> None:
    """Write answers to a file, one per line, for a backup or another machine.

    Example: `tutelage ledger export answers.jsonl --strategy informed_reasoning`
    """
    from tutelage import api

    print(f"{file}: {api.ledger_export(ledger, file, strategy or []):,} answers")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `tutelage ledger export` wrote.")],
    ledger: LedgerOption = None,
) -> None:
    """Add exported answers: all of a file, or none where one of its lines is faulty.

    Answers that the ledger already has are kept. No budget is charged.

    Example: `tutelage ledger import answers.jsonl`
    """
    from tutelage import api

    new, known = api.ledger_import(ledger, file)
    print(f"{new:,} answers imported, {known:,} already known")


@app.command()
def prune(
    ledger: LedgerOption = None,
    strategy: Annotated[str | None, typer.Option(help="Only answers to this strategy.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    identity: Annotated[
        str | None, typer.Option(help="Only answers of this teacher, as `show` names it.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(help="Only answers at least this many days old.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without this, only count.")] = False,
) -> None:
    """Delete answers permanently. Their cost stays charged to their budgets.

    Example: `tutelage ledger prune --model gpt-3.5-turbo-0125 --older-than 90`
    """
    from tutelage import api

    count, usd = api.ledger_prune(
        ledger,
        strategy=strategy,
        model=model,
        identity=identity,
        older_than_days=older_than,
        do_it=yes,
    )
    if usd is None:
        print(f"{count:,} answers deleted")
    else:
        print(
            f"{count:,} answers, which cost {_usd(usd)}, would be deleted; add --yes to delete them"
        )


@app.command()
def batches(
    ledger: LedgerOption = None,
    cancel: Annotated[
        int | None, typer.Option(help="End this batch early; its answers so far are kept.")
    ] = None,
    adopt: Annotated[
        str | None,
        typer.Option(help="NUMBER=ID: the server has this batch under that id.", metavar="N=ID"),
    ] = None,
    forget: Annotated[
        int | None, typer.Option(help="Abandon this batch; its possible cost stays charged.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Address of the server, if it has changed since the batch was sent."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the batches that have not ended, or act on one of them.

    Example: `tutelage ledger batches --cancel 3`
    """
    from tutelage import api
    from tutelage.cli.terminal import print_json
    from tutelage.core.errors import UsageError

    if sum(choice is not None for choice in (cancel, adopt, forget)) > 1:
        raise UsageError(
            "ledger batches: expected only one of --cancel, --adopt and --forget at a time"
        )
    if cancel is not None:
        state = "will end" if api.cancel_batch(ledger, cancel, base_url) else "has already ended"
        print(f"batch {cancel} {state}; the next run of its recipe collects its answers")
    elif adopt is not None:
        number, equals, remote_id = adopt.partition("=")
        if not (number.strip().isdigit() and equals and remote_id.strip()):
            raise UsageError(f"ledger batches --adopt {adopt}: expected NUMBER=ID")
        api.adopt_batch(ledger, int(number), remote_id.strip(), base_url)
        print(f"batch {number} is {remote_id}; the next run of its recipe collects its answers")
    elif forget is not None:
        held = api.forget_batch(ledger, forget)
        print(f"batch {forget}: abandoned; {held:,} requests can be made again")
    else:
        rows = api.ledger_overview(ledger)[0].batches
        if json:
            print_json(rows)
        elif not rows:
            print("No batch is open.")
        else:
            for row in rows:
                print(_batch_line(row))


def _usd(dollars: float) -> str:
    return (
        f"${dollars:,.2f}"
        if dollars == 0 or dollars >= 1
        else f"${dollars:.6f}".rstrip("0").rstrip(".")
    )
