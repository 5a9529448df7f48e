"""What the paper's annotations cost today, for several teachers, at list prices.

    python scripts/paper_cost.py                              prints the table
    python scripts/paper_cost.py --write docs/guides/paper.md puts it into the page
    python scripts/paper_cost.py openai:gpt-6-luna --input 300 --output 150

No request is made, and no data are needed: lengths are assumed, and `tutelage plan anli-r1` counts
them. Prices are those that a budget is charged with (the package genai-prices).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.teacher.cost.budget import price_for
from tutelage.teacher.cost.prices import PICO, Price

ROWS = 16_946
"""Training rows of ANLI round 1: each is one request of informed reasoning."""

INPUT_TOKENS, OUTPUT_TOKENS = 220, 110
"""Of one request. 110 tokens are some 85 words, where the prompt asks for 100 at most."""

TEACHERS = (
    "openai:gpt-6-luna",
    "openai:gpt-6-sol",
    "anthropic:claude-haiku-5-5",
    "anthropic:claude-sonnet-5-5",
    "gemini:gemini-3.5-flash-lite",
    "gemini:gemini-3.8-flash",
    "openai:gpt-3.5-turbo-0125",
)
"""As a recipe names them. The last is the paper's, which has been retired."""

BEGIN, END = "<!-- the table of costs -->\n", "<!-- its end -->\n"


def dollars(price: Price, input_tokens: int, output_tokens: int) -> float:
    """US dollars for ROWS requests of this length."""
    first = price.rates[0]
    one = first.input * input_tokens + first.output * output_tokens + price.per_request
    return ROWS * one / PICO


def table(prices: dict[str, Price], input_tokens: int, output_tokens: int) -> str:
    """A table in Markdown: a row for each teacher, the least expensive first."""
    lines = [
        "| teacher | input, output (dollars per million tokens) | one strategy | both, at most "
        "| both, by batch |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(prices, key=lambda each: dollars(prices[each], input_tokens, output_tokens)):
        price = prices[name]
        one = dollars(price, input_tokens, output_tokens)
        half = 2 * dollars(price.batch(), input_tokens, output_tokens)
        first = price.rates[0]
        rates = f"{first.input * 1e6 / PICO:.2f}, {first.output * 1e6 / PICO:.2f}"
        lines.append(f"| `{name}` | {rates} | {one:.2f} | {2 * one:.2f} | {half:.2f} |")
    return "\n".join(lines)


def prices_of(teachers: Sequence[str]) -> dict[str, Price]:
    """The list price of each teacher. Raises SystemExit where one is not known."""
    found = {}
    for name in teachers:
        settings = TeacherSettings(model=name, max_tokens=400)
        price = price_for(name.partition(":")[2], settings)
        if price is None:
            raise SystemExit(f"{name}: no price is known; leave it out, or update genai-prices")
        found[name] = price
    return found


def write_table(page: Path, begin: str, end: str, text: str) -> None:
    """Put a text into a page between two marks, in place of what is there.

    Raises SystemExit for a page without the marks.
    """
    before, first, rest = page.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last):
        raise SystemExit(f"{page} lacks the marks {begin!r} and {end!r}")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Print the table, or put it into a page between its two marks."""
    parser = argparse.ArgumentParser(description="What the paper's annotations cost today.")
    parser.add_argument("teachers", nargs="*", default=TEACHERS, metavar="TEACHER")
    parser.add_argument("--input", type=int, default=INPUT_TOKENS, help="tokens of a request")
    parser.add_argument("--output", type=int, default=OUTPUT_TOKENS, help="tokens of an answer")
    parser.add_argument("--write", type=Path, help="the page to put the table into")
    options = parser.parse_args()
    prices = prices_of(options.teachers)
    sources = sorted({price.source.partition(",")[0] for price in prices.values()})
    day = datetime.now(UTC).strftime("%-d %B %Y")
    text = (
        f"{table(prices, options.input, options.output)}\n\nPrices of {day}: {', '.join(sources)}."
    )
    if options.write is None:
        print(text)
        return
    write_table(options.write, BEGIN, END, text)


if __name__ == "__main__":
    main()
