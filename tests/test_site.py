"""The documentation site: built from docs/ without a network, whole, and loading nothing from
elsewhere; and the pages that are generated."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import tutelage
from documented import ROOT, blocks
from tutelage.config.recipe_file import load_recipe, parse_recipe

CONFIGURATION = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements whose address a browser fetches by itself, with the attribute that holds it."""


class Page(HTMLParser):
    """What a page loads, links to, and can be linked to by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag in LOADED and LOADED[tag] in found:
            self.loads.append(found[LOADED[tag]])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])


def dead_links(site: Path) -> list[str]:
    """Each link and each loaded file of the site's pages that leads nowhere within it."""
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.name != "404.html"  # served at any address: its own links are absolute
    }
    dead = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = bool(parts.fragment) and unquote(parts.fragment) not in (
                pages[target].ids if target in pages else {unquote(parts.fragment)}
            )
            if not target.is_file() or lost:
                dead.append(f"{path.relative_to(site)}: {link}")
    return dead


def foreign(site: Path) -> list[str]:
    """Whatever a browser would fetch from another server to show the pages."""
    found = []
    for path in site.rglob("*.html"):
        for address in Page(path.read_text(encoding="utf-8")).loads:
            if urlsplit(address).netloc:
                found.append(f"{path.relative_to(site)}: {address}")
    for path in site.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        for address in re.findall(r"(?:url\(|@import\s*)['\"]?(https?:|//)", style):
            found.append(f"{path.relative_to(site)}: {address}")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy of what it is made of, by Zensical as `make site` calls it."""
    for package in ("zensical", "mkdocstrings_handlers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}: `make test` installs the extra docs")
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    call = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stderr + done.stdout
    return folder / CONFIGURATION["site_dir"]


def test_the_site_has_every_page_and_no_dead_link(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.with_suffix(".html") for path in pages} <= {
        path.relative_to(site) for path in site.rglob("*.html")
    }
    assert not dead_links(site), "\n".join(dead_links(site))


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    assert not foreign(site), "\n".join(foreign(site))
    used = [path for path in site.rglob("*.html") if "mermaid" in path.read_text("utf-8")]
    assert not used, "the theme would load the renderer of such diagrams from elsewhere"


def test_docstrings_are_on_the_page_of_the_python_interface(site: Path) -> None:
    page = Page((site / "api.html").read_text(encoding="utf-8"))
    wanted = {f"tutelage.{tutelage._HOME_OF[name]}.{name}" for name in tutelage.__all__}
    assert wanted <= page.ids, wanted - page.ids
    assert "tutelage.api.train_file" in page.ids
    # The first words of the docstring of load_examples.
    text = re.sub("<[^>]*>", "", (site / "api.html").read_text(encoding="utf-8"))
    assert "Load the labelled examples that" in text


def test_what_finds_dead_links_and_foreign_files_finds_them(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">b</a><a href="b.html#lost">b</a>'
        '<a href="c.html">c</a><a href="#top">top</a><a href="https://example.com/x">out</a>'
        '<img src="no.png"><script src="//example.com/y.js"></script>',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>', encoding="utf-8")
    (tmp_path / "s.css").write_text("@import 'https://example.com/f.css';", encoding="utf-8")
    assert dead_links(tmp_path) == ["a.html: b.html#lost", "a.html: c.html", "a.html: no.png"]
    assert foreign(tmp_path) == ["a.html: //example.com/y.js", "s.css: https:"]


def test_the_navigation_has_every_page() -> None:
    def pages(entry: Any) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        values = entry.values() if isinstance(entry, dict) else entry
        return set().union(*map(pages, values))

    docs = ROOT / "docs"
    assert pages(CONFIGURATION["nav"]) == {
        str(path.relative_to(docs)) for path in docs.rglob("*.md")
    }


def test_git_ignores_the_site() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert f"/{CONFIGURATION['site_dir']}/" in ignored and "/.cache/" in ignored


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / name))


def test_the_python_page_is_current() -> None:
    written = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert written == script("api_page.py")["page"](), "docs/api.md is out of date: run `make docs`"


PAPER = "docs/guides/paper.md"


def test_the_paper_s_recipe_is_the_packaged_one() -> None:
    (recipe,) = blocks(PAPER, "yaml")
    packaged = load_recipe(ROOT / "src/tutelage/config/recipes/anli-r1.yaml")
    assert parse_recipe(yaml.safe_load(recipe.text)) == packaged
    trainings = len(packaged.arms) * len(packaged.seeds) * (packaged.search.trials + 1)
    text = (ROOT / PAPER).read_text(encoding="utf-8")
    assert f"{trainings} trainings" in text
    row_updates = trainings * packaged.student.epochs * script("paper_cost.py")["ROWS"]
    assert f"{row_updates / 1e6:.1f} million rows" in text
    for speeds, days in re.findall(
        r"\| ([\d.]+(?: to \d+)?) \| ([\d.]+(?: to [\d.]+)?) days", text
    ):
        slow, fast = (speeds.split(" to ") * 2)[:2]
        least, most = (days.split(" to ") * 2)[:2]
        assert float(most) == pytest.approx(row_updates / float(slow) / 86_400, rel=0.02)
        assert float(least) == pytest.approx(row_updates / float(fast) / 86_400, rel=0.02)


def test_the_paper_s_costs_follow_from_their_prices(capsys: pytest.CaptureFixture[str]) -> None:
    """Prices change, and the page has their date: what must hold is the arithmetic."""
    cost = script("paper_cost.py")
    text = (ROOT / PAPER).read_text(encoding="utf-8")
    row = r"\| `(\S+)` \| ([\d.]+), ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|"
    rows = re.findall(row, text)
    assert sorted(name for name, *_ in rows) == sorted(cost["TEACHERS"])
    for _, *figures in rows:
        given, written, one, both, batch = map(float, figures)
        tokens = cost["INPUT_TOKENS"] * given + cost["OUTPUT_TOKENS"] * written
        # Prices have two digits, of tokens and of the total.
        assert one == pytest.approx(cost["ROWS"] * tokens / 1e6, abs=0.03)
        assert both == pytest.approx(2 * one, abs=0.011)
        assert both / 2.2 < batch < both
    assert [float(row[3]) for row in rows] == sorted(float(row[3]) for row in rows)


def test_the_paper_s_prices_are_found_today() -> None:
    cost = script("paper_cost.py")
    assert set(cost["prices_of"](cost["TEACHERS"])) == set(cost["TEACHERS"])


def test_what_many_rows_take_follows_from_its_assumptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of docs/scale.md by arithmetic of its own, and what the page says about it."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    scale = script("scale_cost.py")
    text = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([\d,]+) \| (live|batch|pool) \| (.*) \|$", text, re.MULTILINE)
    assert len(lines) == 9
    units = {"min": 1 / 1440, "h": 1 / 24, "days": 1.0, "MB": 1e6, "GB": 1e9, "TB": 1e12}

    def value(cell: str) -> float:
        number, _, unit = cell.replace(",", "").partition(" ")
        return float(number) * units.get(unit, 1)

    dollars_of_one = {"live": 82.5 / 1e6, "batch": 41.25 / 1e6, "pool": 110 / 5000 / 3600 * 2.5}
    for written, way, rest in lines:
        rows = value(written)
        time, dollars, _machines, ledger, memory = map(str.strip, rest.split("|"))
        days = {
            "live": rows / min(500, scale["REQUESTS_PER_SECOND"]) / 86_400,
            "batch": max(1.0, rows * 220 / 5e9),
            "pool": rows * 110 / 5000 / 8 / 86_400,
        }[way]
        assert value(time) == pytest.approx(days, rel=0.16)  # whole days
        assert value(dollars) == pytest.approx(
            rows * dollars_of_one[way], rel=0.1
        )  # a price's date
        assert value(ledger) == pytest.approx(rows * (250 + 4 * 330), rel=0.03)
        assert value(memory) == pytest.approx(70e6 + 160 * rows, rel=0.03)
    for constant in (scale["REQUESTS_PER_SECOND"], scale["BYTES_PER_ROW"]):
        assert f" {constant} " in text
