"""A ledger that commit 8a9cbb3 wrote still answers the same requests.

data/ledger-8a9cbb3.sqlite holds what that commit kept of annotating EXAMPLES with each strategy
that has a prompt (information extraction also with structured answers), answered by the scripted
OpenAI-compatible server under the provider name "a scripted server". For informed reasoning the
server refused two rows: FAILED with HTTP 400, and REFUSED with the message of a content filter.
Every other answer is a function of the example (see `expected_text`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.data.synthetic import generate
from tutelage.strategies.labelling import Labelling
from tutelage.strategies.lookup import Strategy, get_strategy
from tutelage.teacher.annotate import Annotation, Options, annotate
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.maintenance import overview
from tutelage.teacher.ledger.store import Ledger

FILE = Path(__file__).parent / "data/ledger-8a9cbb3.sqlite"
EXAMPLES = generate(24, seed=16)
FAILED, REFUSED = EXAMPLES[3], EXAMPLES[5]
TEMPLATE = "{{ premise }}\nWhy is it {{ label }} that {{ hypothesis }}"
STRATEGIES: dict[str, Strategy] = {
    "information_extraction": get_strategy("information_extraction"),
    "informed_reasoning": get_strategy("informed_reasoning"),
    "template": get_strategy("template", template=TEMPLATE, task=NLI),
    "label": Labelling(NLI, EXAMPLES[:1]),
}
BUDGET = "old"


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(shutil.copy(FILE, tmp_path)) as copied:
        yield copied


def settings(**changes: object) -> TeacherSettings:
    """Those of the old annotation, at an address where nothing answers."""
    values = {
        "model": "openai:m",
        "provider": "a scripted server",
        "base_url": "http://127.0.0.1:9/v1",
        "temperature": 0.2,
        "seed": 123,
        "max_tokens": 400,
        "budget_usd": 5,
        "price": PriceOverride(input=0.4, output=1.6),
    }
    return TeacherSettings(**{**values, **changes})


def expected_text(strategy: str, example: Example) -> str:
    if strategy == "template":
        return "as " + example.references["informed_reasoning"]
    if strategy == "label":
        return f"**{NLI.verbalize(example.label)}**."
    if strategy == "informed_reasoning" and example in (FAILED, REFUSED):
        return ""
    # The synthetic answer has a line for each of the five W; the canonical form has one line.
    return " ".join(example.references[strategy].split())


def again(ledger: Ledger, strategy: str, **changes: object) -> Annotation:
    return annotate(
        EXAMPLES,
        strategy=STRATEGIES[strategy],
        teacher=settings(**changes),
        task=NLI,
        ledger=ledger,
        options=Options(budget_name=BUDGET),
    )


CASES = [(name, False) for name in STRATEGIES] + [("information_extraction", True)]


@pytest.mark.parametrize(("name", "structured"), CASES)
def test_an_old_ledger_answers_without_one_request(ledger, name: str, structured: bool) -> None:
    annotation = again(ledger, name, structured=structured)
    assert annotation.requests == annotation.summary.attempts == 0
    assert [r.text for r in annotation.rationales] == [expected_text(name, e) for e in EXAMPLES]
    assert [r.uid for r in annotation.rationales] == [e.uid for e in EXAMPLES]
    assert {r.strategy for r in annotation.rationales} == {name}
    failing = {FAILED.uid: "failed", REFUSED.uid: "refused"} if name == "informed_reasoning" else {}
    assert [r.status for r in annotation.rationales] == [failing.get(e.uid, "ok") for e in EXAMPLES]
    if name == "label":
        assert [r.label for r in annotation.rationales] == [e.label for e in EXAMPLES]


def test_the_reasons_of_old_failures_are_kept(ledger) -> None:
    rationales = {r.uid: r for r in again(ledger, "informed_reasoning").rationales}
    assert rationales[FAILED.uid].detail == "HTTP 400: Invalid 'messages[0].content'."
    assert rationales[REFUSED.uid].detail == "the server's content filter"
    (failure,) = overview(ledger).failures
    assert (failure.strategy, failure.reason, failure.final) == (
        "informed_reasoning",
        "refused",
        True,
    )


def test_what_old_answers_cost_is_kept(ledger) -> None:
    before = charges.charged(ledger, BUDGET)
    annotations = [again(ledger, name, structured=structured) for name, structured in CASES]
    assert sum(round(1e12 * (a.summary.cost_usd or 0)) for a in annotations) == before > 0
    assert charges.charged(ledger, BUDGET) == before
    assert sum(a.cached for a in annotations) == len(ledger)


def test_another_setting_is_another_request(ledger) -> None:
    """The test's own test: what is not in the ledger does reach for the server, and fails."""
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        again(ledger, "template", temperature=0.3)
