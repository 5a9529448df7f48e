"""`tutelage export`: a trained student as a folder that stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Given, takes
from tutelage.cli.terminal import command_of
from tutelage.config.export_settings import ExportSettings


@takes(ExportSettings, "Export")
def export(
    model: Annotated[
        Path, typer.Argument(help="The folder of a run, or a checkpoint, …/seed-0/model.")
    ],
    given: Given,
    output: Annotated[Path, typer.Option(help="The folder to write.")] = Path("model"),
    dev: Annotated[
        str | None,
        typer.Option(help="Rows for the temperature, where MODEL is not a run."),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Rows for the parity gate, where MODEL is not a run.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output folder that is there.")
    ] = False,
) -> None:
    """Export a trained student, smaller and faster, as a folder that stands alone.

    The export is compared with what was evaluated, on the test rows and on made-up rows that are
    too long: where it answers otherwise, it is refused. The extra `deliver` alone runs it, without
    torch.

    Example: `tutelage export runs/quickstart --output exported`
    """
    from tutelage import api
    from tutelage.cli.terminal import complain
    from tutelage.core.errors import require_extra

    require_extra("train", "tutelage export")
    made = api.export(
        model, output, given.build(ExportSettings), dev=dev, test=test, overwrite=overwrite
    )
    record, parity = made.record, made.parity
    for note in made.notes:
        complain(note, label="note")
    accuracy = "" if parity.accuracy is None else f", accuracy {parity.accuracy:.3f}"
    print(
        f"{output}: labels by {record.label_engine} in {record.precision}, rationales by "
        f"{record.rationale_engine}; {parity.rows:,} rows compared: the same label on "
        f"{parity.agreement:.1%}, probabilities within {parity.largest:.1e}{accuracy}"
    )
    print(f"Next: tutelage serve {output}")


app = command_of(export)
