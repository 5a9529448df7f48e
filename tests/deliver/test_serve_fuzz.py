"""Requests made from the server's own OpenAPI description, right and wrong ones, find no 500."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from serving_app import Served, serving
from students import Made

schema = schemathesis.pytest.from_fixture("described")


@pytest.fixture(scope="module")
def served(made: Callable[[str], Made]) -> Iterator[Served]:
    with serving(made("t5").export.folder, max_rows=8, max_explained=2) as found:
        yield found


@pytest.fixture
def described(served: Served) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{served.address}/openapi.json")


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_finds_a_500(case: schemathesis.Case) -> None:
    answer = case.call()
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["detail"]
    elif case.path == "/predict":
        assert "model" in answer.json()
