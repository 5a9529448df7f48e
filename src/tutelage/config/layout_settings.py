"""How a data file is read: its columns, its encoding, and what its numbers and marks mean."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tutelage.config.settings import Settings, Text
from tutelage.core.labels import spelled


def _as_text(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        raise ValueError(f"expected text, which YAML does not read this as: quote it: '{text}'")
    return value


LabelText = Annotated[Text, BeforeValidator(_as_text)]
"""The name of a label. `true`, `0` and `1.0` without quotes are not text in YAML."""


class LayoutSettings(Settings):
    """How data files are read. The defaults fit most files."""

    columns: dict[str, str | list[Text]] = Field(
        {},
        description="Names of the file's columns: our field → the file's column. Our fields are "
        "those of the task, `label`, and optionally `uid`, `reason` and `tags`; an empty name "
        "means that the file has none. A path such as `data.text` leads into nested values. "
        "`reason` may be a list of columns.",
        examples=[{"label": "sentiment"}],
    )
    encoding: Text | None = Field(
        None,
        description="Encoding of text files. Default: UTF-8, or UTF-16 where the file begins with "
        "its mark.",
        examples=["cp1252"],
    )
    delimiter: str | None = Field(
        None,
        description="The character between the cells of a CSV file; `tab` for a tab. Default: a "
        "tab in `.tsv`; elsewhere a comma, or the semicolon or tab of a header without commas.",
        examples=[";"],
    )
    header: bool = Field(
        True,
        description="Whether the first row of a table has the names of the columns. Without names "
        'they are `"1"`, `"2"`, `"3"`, ….',
        examples=[False],
    )
    label_names: list[LabelText] = Field(
        [],
        description="The labels that the numbers 0, 1, 2, … in the label column stand for, in this "
        "order. Default: the names that the file itself has for them; for `nli` entailment, "
        "neutral, contradiction; elsewhere none, and a number is a label only if it is listed.",
        examples=[["contradiction", "entailment", "neutral"]],
    )
    no_label: list[str] = Field(
        [],
        description="Values that mean that a row has no label, as an empty one always does. "
        "Default: -1 and `-` where the numbers have names (see `label_names`), else none.",
        examples=[["-1"]],
    )

    @model_validator(mode="before")
    @classmethod
    def _values_without_label(cls, values: Any) -> Any:
        """`unlabelled: [-1]`, a list or a number, means these values; a text there names a file."""
        if isinstance(values, Mapping) and isinstance(
            values.get("unlabelled"), list | tuple | int | float
        ):
            moved = dict(values)
            marks = moved.pop("unlabelled")
            return {"no_label": marks, **moved}
        return values

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.lookup(value)
            except LookupError as error:
                raise ValueError("expected the name of an encoding, such as cp1252") from error
        return value

    @field_validator("delimiter")
    @classmethod
    def _character(cls, value: str | None) -> str | None:
        value = "\t" if value in ("tab", "\\t") else value
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError("expected one character, or `tab`")
        return value

    @field_validator("no_label", mode="before")
    @classmethod
    def _marks(cls, value: Any) -> Any:
        """Numbers may be written without quotes, and a single value without brackets."""
        values = value if isinstance(value, list | tuple) else [value]
        return [spelled(one) if isinstance(one, bool | int | float) else one for one in values]

    def layout(self) -> LayoutSettings:
        """These settings alone, without those of a class that inherits them."""
        return LayoutSettings(**{name: getattr(self, name) for name in LayoutSettings.model_fields})


def layout_of(columns: Mapping[str, Any] | None) -> LayoutSettings:
    """The settings that name columns, and nothing else."""
    return LayoutSettings(columns=dict(columns or {}))
