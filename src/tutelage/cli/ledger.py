"""`tutelage ledger`: what was paid for, and what is to become of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tutelage.teacher.batch.batches import BatchRow
    from tutelage.teacher.ledger.maintenance import Overview

app = typer.Typer(
    name="ledger",
    no_args_is_help=True,
    help="Show, export, import and prune the answers that were paid for; see to open batches.\n\n"
    "Example: `tutelage ledger show`",
)

LedgerOption = Annotated[
    Path | None, typer.Option("--ledger", help="Where paid answers are kept (TUTELAGE_LEDGER).")
]


@app.command()
def show(
    ledger: LedgerOption = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="List each question that failed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Answers, tokens and dollars by teacher and strategy; budgets, open batches, failures.

    Example: `tutelage ledger show --failures`
    """
    from tutelage.cli.terminal import print_json
    from tutelage.core.storage import as_json
    from tutelage.teacher.ledger import maintenance

    with maintenance.open_existing(ledger) as opened:
        found = maintenance.overview(opened)
        lines = maintenance.failures(opened) if failures else []
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
                *(escape(t) for t in (_short(group.identity), group.model, group.strategy)),
                f"{group.answers:,}",
                f"{group.prompt_tokens:,}",
                f"{group.completion_tokens:,}",
                _usd(group.usd) if group.unpriced < group.answers else "unknown",
            )
        console.print(table)
    uncounted = sum(group.uncounted for group in found.answers)
    if uncounted:
        print(f"{uncounted:,} answers came without a count of tokens")
    for budget in found.budgets:
        if not budget.charged_usd:
            continue  # nothing is known to cost anything
        parts = [f"{_usd(budget.paid_usd)} paid"]
        if budget.held:
            parts.append(f"{_usd(budget.held_usd)} held for {budget.held:,} under way")
        if budget.lost:
            parts.append(f"{_usd(budget.lost_usd)} for {budget.lost:,} lost on the way")
        print(f"budget of {budget.scope}: {_usd(budget.charged_usd)} charged: {', '.join(parts)}")
    for row in found.batches:
        print(_batch_line(row))
    for failed in found.failures:
        kind = "failed for good" if failed.final else "failed, may be asked again"
        print(
            f"{failed.requests:,} of {failed.strategy} {kind}: {failed.reason}, such as: "
            f"{failed.example}"
        )


def _short(identity: str) -> str:
    """A model file's digest as people tell it from another's; `prune` takes it like that too."""
    from tutelage.teacher.ledger.maintenance import DIGEST_PREFIX, SHORT_LENGTH, is_digest

    return identity[: len(DIGEST_PREFIX) + SHORT_LENGTH] if is_digest(identity) else identity


def _batch_line(row: BatchRow) -> str:
    import datetime

    begun = datetime.datetime.fromtimestamp(row.created).astimezone().isoformat(" ", "minutes")
    where = f"{row.remote_id} at {row.base_url}" if row.remote_id else f"for {row.base_url}"
    detail = f", {row.detail}" if row.detail else ""
    return (
        f"batch {row.id} ({where}): {row.requests:,} questions to {row.model} for {row.scope}, "
        f"{begun}: {row.state}{detail}"
    )


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="The .jsonl file to write.")],
    ledger: LedgerOption = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Of this strategy alone; may be repeated.")
    ] = None,
) -> None:
    """Write answers to a file, one a line, for a backup or another machine.

    Example: `tutelage ledger export answers.jsonl --strategy informed_reasoning`
    """
    from tutelage.teacher.ledger.export import export_answers
    from tutelage.teacher.ledger.maintenance import open_existing

    with open_existing(ledger) as opened:
        count = export_answers(opened, file, strategy or [])
    print(f"{file}: {count:,} answers")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `tutelage ledger export` wrote.")],
    ledger: LedgerOption = None,
) -> None:
    """Take in exported answers: all of a file, or nothing where a line of it is wrong.

    An answer that is there already stays. No budget is charged.

    Example: `tutelage ledger import answers.jsonl`
    """
    from tutelage.teacher.ledger.export import import_answers
    from tutelage.teacher.ledger.store import Ledger

    with Ledger(ledger) as opened:
        new, known = import_answers(opened, file)
    print(f"{new:,} answers imported, {known:,} were there already")


@app.command()
def prune(
    ledger: LedgerOption = None,
    strategy: Annotated[str | None, typer.Option(help="Only answers to this strategy.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    identity: Annotated[
        str | None, typer.Option(help="Only answers of this teacher, as `show` names it.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(help="Only answers that came so many days ago or earlier.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what.")] = False,
) -> None:
    """Throw answers away for good. What they cost stays charged to their budgets.

    Example: `tutelage ledger prune --model gpt-3.5-turbo-0125 --older-than 90`
    """
    from tutelage.teacher.ledger import maintenance

    which = maintenance.Pruning(strategy, model, identity, older_than)
    with maintenance.open_existing(ledger) as opened:
        if not yes:
            count, usd = maintenance.would_prune(opened, which)
            print(f"{count:,} answers, which cost {_usd(usd)}, would go; add --yes to do it")
            return
        print(f"{maintenance.prune(opened, which):,} answers are gone")


@app.command()
def batches(
    ledger: LedgerOption = None,
    cancel: Annotated[
        int | None, typer.Option(help="End this batch early; what it has answered is kept.")
    ] = None,
    adopt: Annotated[
        str | None,
        typer.Option(help="NUMBER=ID: the server has this batch, under that id.", metavar="N=ID"),
    ] = None,
    forget: Annotated[
        int | None, typer.Option(help="Give this batch up; what it may cost stays charged.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Of the server, if not where the batch was sent.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the batches that have not ended, or see to one of them.

    Example: `tutelage ledger batches --cancel 3`
    """
    from tutelage.cli.terminal import print_json
    from tutelage.core.errors import UsageError
    from tutelage.teacher.ledger import maintenance

    if sum(choice is not None for choice in (cancel, adopt, forget)) > 1:
        raise UsageError("ledger batches: expected one of --cancel, --adopt and --forget at a time")
    with maintenance.open_existing(ledger) as opened:
        if cancel is not None:
            ended = not maintenance.cancel_batch(opened, cancel, base_url)
            print(
                f"batch {cancel}: "
                + ("it has ended already" if ended else "will end")
                + "; the next run of its recipe collects what it answered"
            )
        elif adopt is not None:
            number, equals, remote_id = adopt.partition("=")
            if not (number.strip().isdigit() and equals and remote_id.strip()):
                raise UsageError(f"ledger batches --adopt {adopt}: expected NUMBER=ID")
            maintenance.adopt_batch(opened, int(number), remote_id.strip(), base_url)
            print(f"batch {number} is {remote_id}: the next run of its recipe collects it")
        elif forget is not None:
            held = maintenance.forget_batch(opened, forget)
            print(f"batch {forget}: given up; {held:,} questions can be asked again")
        else:
            rows = maintenance.overview(opened).batches
            if json:
                print_json(rows)
            elif not rows:
                print("No batch is open.")
            else:
                for row in rows:
                    print(_batch_line(row))


def _usd(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars == 0 or dollars >= 1 else f"${dollars:.6f}".rstrip("0")
