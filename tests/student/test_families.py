"""Every family of docs/students.md: trained, saved, loaded, scored, compared with transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import REFUSED, STUDENTS, Family
from family_trial import (
    DOCS,
    REFUSED_HEAD,
    STUDENTS_HEAD,
    make_tokenizer,
    refusal,
    refused_row_of,
    row_of,
    table,
    try_family,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("family", STUDENTS, ids=lambda family: family.name)
def test_a_family_is_what_transformers_computes(
    family: Family, tokenizer: Path, tmp_path: Path
) -> None:
    row = row_of(family, try_family(family, tmp_path, tokenizer))
    assert row in table(DOCS.read_text(encoding="utf-8"), STUDENTS_HEAD)


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)
def test_a_family_is_refused(family: Family, tokenizer: Path, tmp_path: Path) -> None:
    row = refused_row_of(family, refusal(family, tmp_path, tokenizer))
    assert row in table(DOCS.read_text(encoding="utf-8"), REFUSED_HEAD)


def test_the_tables_name_no_other_family() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for head, families in ((STUDENTS_HEAD, STUDENTS), (REFUSED_HEAD, REFUSED)):
        assert [row.split(" | ")[0].removeprefix("| ") for row in table(text, head)] == [
            family.name for family in families
        ]
