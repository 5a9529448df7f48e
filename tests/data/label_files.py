"""Files with given label values, in every format, and how `init` and loading read them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from tutelage import api
from tutelage.config.recipe_file import load_recipe
from tutelage.data.load import Examples, load_examples

FORMATS = ("csv", "jsonl", "parquet")


def write(folder: Path, kind: str, labels: Sequence[object], name: str = "rows") -> Path:
    """A file with a row for each label, and no other differences between the rows."""
    path = folder / f"{name}.{kind}"
    texts = [f"the film number {i} was shown" for i in range(len(labels))]
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text", "label"], *zip(texts, labels, strict=True)])
    elif kind == "jsonl":
        rows = [{"text": t, "label": v} for t, v in zip(texts, labels, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": texts, "label": list(labels)}), path)
    return path


def drafted(path: Path, **options: object) -> Path:
    """The recipe that `init` writes for the file."""
    recipe = path.with_name(f"{path.stem}-{path.suffix[1:]}.yaml")
    text, _ = api.draft(
        path,
        dev=None,
        test=None,
        teacher="scripted",
        student="scratch:t5-tiny",
        **options,  # type: ignore[arg-type]
    )
    recipe.write_text(text, encoding="utf-8")
    return recipe


def loaded(path: Path, recipe: Path) -> Examples:
    """The rows of the file, as the recipe reads them."""
    read = load_recipe(str(recipe))
    return load_examples(str(path), read.resolved_task(), read.data)


def by_row(examples: Examples) -> list[tuple[str, str]]:
    """(text, label) in order."""
    return [(example.fields["text"], example.label) for example in examples]


def task_of(recipe: Path) -> object:
    """The value of the recipe's key `task`."""
    return yaml.safe_load(recipe.read_text(encoding="utf-8"))["task"]
