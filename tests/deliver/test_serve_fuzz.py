"""Requests made from the server's own OpenAPI description, right and wrong ones, find no 500."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from serving_app import Served, serving
from students import Made

PATHS = ["/predict", "/info", "/healthz", "/readyz", "/metrics"]


@pytest.fixture(scope="module")
def served(made: Callable[[str], Made]) -> Iterator[Served]:
    with serving(made("t5").export.folder, max_rows=4, max_explained=2, max_text_chars=80) as found:
        yield found


@pytest.fixture(scope="module")
def described(served: Served) -> Any:
    import schemathesis

    return schemathesis.openapi.from_url(f"{served.address}/openapi.json")


def test_the_description_has_every_path(described: Any) -> None:
    found = [operation.ok().path for operation in described.get_all_operations()]
    assert sorted(found) == sorted(PATHS)


RIGHT, WRONG = "positive", "negative"


# The other paths take nothing that could be wrong.
@pytest.mark.parametrize(("path", "mode"), [("/predict", WRONG), *((p, RIGHT) for p in PATHS)])
def test_no_request_finds_a_500(described: Any, path: str, mode: str) -> None:
    from schemathesis import GenerationMode

    method = "POST" if path == "/predict" else "GET"
    statuses = set()

    @given(case=described[path][method].as_strategy(generation_mode=GenerationMode(mode)))
    @settings(
        max_examples=25 if path == "/predict" else 3,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def attempt(case: Any) -> None:
        answer = case.call()
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json()["detail"]

    attempt()
    if mode == RIGHT:
        assert 200 in statuses  # what the description allows is taken
    else:
        assert statuses & {413, 415, 422}
