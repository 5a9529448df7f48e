"""The server's page in a browser: typed, predicted, read; harmless, and usable by keyboard alone.

Debian's chromium, driven by playwright; skipped where either is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from serving_app import Served, serving
from students import ROWS, TASK, Made

from chromium import launched, needs_chromium

pytestmark = needs_chromium
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
NASTY = "<img src=x onerror=alert(1)><b>the red door</b> is near a window"


@pytest.fixture(scope="module")
def served(made: Callable[[str], Made]) -> Iterator[Served]:
    with serving(made("t5").export.folder, threshold=0.99) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end, it called nobody but the server, and nothing went wrong in it."""
    contexts: list[Any] = []
    requests: list[str] = []
    faults: list[str] = []

    def open_page(server: Served = served, viewport: Any = WIDE, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.goto(server.address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert requests and all(url.startswith("http://127.0.0.1:") for url in requests)
    assert faults == []


def _bars(page: Any) -> dict[str, float]:
    rows = page.locator("#output .row")
    rows.first.wait_for()
    found = {}
    for row in rows.all():
        share = float(row.locator(".number").text_content().removesuffix("%"))
        track, fill = row.locator(".track").bounding_box(), row.locator(".fill").bounding_box()
        assert fill["width"] / track["width"] == pytest.approx(share / 100, abs=0.02)
        found[row.locator("span").first.text_content()] = share
    return found


def test_a_typed_row_is_predicted_and_shown_as_bars(
    opened: Callable[..., Any], served: Served
) -> None:
    page = opened()
    row = dict(ROWS[4].fields)
    page.get_by_label("Note").fill(row["note"])
    page.get_by_label("Claim").fill(row["claim"])
    page.get_by_label("Write a rationale too").check()
    page.get_by_role("button", name="Predict").click()
    bars = _bars(page)
    wanted = served.predict({"row": row, "explain": True})[2]["prediction"]
    assert bars == pytest.approx({k: 100 * v for k, v in wanted["probabilities"].items()}, abs=0.1)
    assert page.locator("#output p").first.text_content() == f"Label: {wanted['label']}"
    assert page.locator("#rationale").text_content() in (wanted["rationale"], "(it wrote none)")
    assert "Below the threshold" in page.locator("#output").text_content()


def test_the_keyboard_alone_suffices(opened: Callable[..., Any]) -> None:
    page = opened()
    page.locator("#field-0").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("the red door is near a lamp")
    page.keyboard.press("Tab")
    page.keyboard.type("the door is cold")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "send"
    page.keyboard.press("Enter")
    assert set(_bars(page)) == set(TASK.labels)
    page.keyboard.press("Tab")  # the first example
    assert page.evaluate("document.activeElement.closest('ul').id") == "examples"
    page.keyboard.press("Enter")
    page.wait_for_function(
        f"document.getElementById('field-0').value === {ROWS[0].fields['note']!r}"
    )
    assert page.locator("#output").get_attribute("aria-live") == "polite"


def test_markup_in_a_text_is_shown_as_text(opened: Callable[..., Any], made: Any) -> None:
    page = opened()
    page.get_by_label("Note").fill(NASTY)
    page.get_by_label("Claim").fill(NASTY)
    page.get_by_role("button", name="Predict").click()
    _bars(page)
    # As an answer of the server's and as one of its examples, too.
    page.evaluate(
        "text => show({label: text, probabilities: {[text]: 1}, trusted: true, cut_tokens: 0,"
        " rationale: text})",
        NASTY,
    )
    assert page.locator("#rationale").text_content() == NASTY
    assert page.locator("#output img, #output b").count() == 0


def test_an_empty_field_a_long_text_and_a_refusal_are_explained(
    opened: Callable[..., Any],
) -> None:
    page = opened()
    page.get_by_role("button", name="Predict").click()
    assert "“note” is empty." in page.locator("#output").text_content()
    page.get_by_label("Note").fill("the red door " * 60)
    page.get_by_label("Claim").fill("a lamp")
    page.get_by_label("Claim").press("Control+Enter")
    _bars(page)
    assert "tokens were cut" in page.locator("#output").text_content()
    page.get_by_label("Note").fill("x" * 50_001)
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("at most 50,000 are taken").wait_for()


def test_a_token_is_asked_for(opened: Callable[..., Any], made: Callable[[str], Made]) -> None:
    with serving(made("t5").export.folder, token="abc") as locked:
        page = opened(locked)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This is not the token.").wait_for()
        page.get_by_label("Token").fill("abc")
        page.get_by_role("button", name="Unlock").click()
        page.get_by_label("Note").fill("the red door")
        page.get_by_label("Claim").fill("a lamp")
        page.get_by_role("button", name="Predict").click()
        _bars(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_it_fits_its_window(
    opened: Callable[..., Any], viewport: Any, scheme: str, tmp_path: Any
) -> None:
    page = opened(viewport=viewport, color_scheme=scheme)
    page.locator("#examples button").nth(2).click()
    _bars(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"]
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark is (scheme == "dark")
    page.screenshot(path=str(tmp_path / f"{viewport['width']}-{scheme}.png"), full_page=True)
