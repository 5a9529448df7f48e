"""The report: one HTML file that needs nothing but itself, and the same in Markdown.

`render_report` and `render_markdown` arrange the results and hand them to templates/report.html.j2
and templates/report.md.j2; every number is formatted by `wording`. In the page every name is
escaped by jinja2, in Markdown by `markdown.escaped`.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tutelage.core import wording
from tutelage.core.errors import RunFolderError
from tutelage.core.results import ClaimOnTest, ComparisonResult, Configuration, Results
from tutelage.core.storage import write_atomic
from tutelage.core.types import RATIONALE_STATUSES
from tutelage.report.answer import (
    answer_sentences,
    caveats,
    families,
    findings,
    is_control,
    margin_of,
    told_apart,
)
from tutelage.report.costs import costs_of
from tutelage.report.curve_section import learning_curve
from tutelage.report.diagnostic_sections import chance_of, looks_of
from tutelage.report.explanation_section import explained
from tutelage.report.figures.accuracy import accuracy_plot, forest_plot
from tutelage.report.figures.curve import curve_plot
from tutelage.report.figures.reliability import reliability_plot, risk_coverage_plot, slices_plot
from tutelage.report.learnt import beside
from tutelage.report.markdown import escaped
from tutelage.report.rows import PackedRows, pack_rows
from tutelage.report.run_files import RunFiles, read_run
from tutelage.report.sanity_checks import baselines_of
from tutelage.report.units import rows_in_words, units_in_words, with_units

if TYPE_CHECKING:
    import jinja2

__all__ = ["answer_sentences", "render_markdown", "render_report", "write_report"]

NO_FILES = RunFiles()
"""For results that stand alone: the page then has no rows, versions or recipe to show."""

_FILTERS = {
    "percent": wording.percent,
    "percent_interval": wording.percent_interval,
    "points": wording.points,
    "points_interval": wording.points_interval,
    "p_value": wording.p_value,
    "count": wording.count,
    "dollars": wording.dollars,
    "duration": wording.duration,
    "decimal": wording.decimal,
    "several": wording.several,
    "rows_in_words": rows_in_words,
    "with_units": with_units,
}
_VERDICTS = {
    "content": "Helped, by what they say",
    "gain": "Helped; not shown why",
    "open": "No difference told",
    "worse": "Did harm",
}
_MOST_REASONS = 8
_SECOND_LOOK = (
    "This is a second look at the same models, outside the correction above: what it tells has no "
    "say in the answer."
)


def write_report(folder: Path, page: Path | None = None) -> Path:
    """Make report.html and report.md of what is in a run's folder; returns the page's path.

    page: where it goes, in the place of report.html; the Markdown goes beside it
    """
    results, files = read_run(folder)
    title = f"Tutelage: {results.name}"
    page = page or folder / "report.html"
    write_atomic(page, render_report(results, title=title, files=files))
    write_atomic(page.with_suffix(".md"), render_markdown(results, title=title, files=files))
    return page


def render_report(results: Results, *, title: str, files: RunFiles = NO_FILES) -> str:
    """The page as one string of HTML, without a network address to fetch from.

    files: what the run folder holds besides. Raises RunFolderError where its manifest lacks
           something.
    """
    script = "".join(
        (resources.files("tutelage.report") / "templates" / name).read_text(encoding="utf-8")
        for name in ("page.js", "rows.js")
    )
    return _render(
        "report.html.j2",
        results,
        files,
        autoescape=True,
        title=title,
        rows=_packed(results, files),
        forest_plot=forest_plot,
        accuracy_plot=accuracy_plot,
        curve_plot=curve_plot,
        slices_plot=slices_plot,
        reliability_plot=reliability_plot,
        risk_coverage_plot=risk_coverage_plot,
        script=Markup(script),
        script_sha256=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def render_markdown(results: Results, *, title: str, files: RunFiles = NO_FILES) -> str:
    """The same for a pull request, without figures and rows. Arguments and errors: as above."""
    return _render("report.md.j2", results, files, autoescape=False, title=title)


def _render(
    template: str, results: Results, files: RunFiles, *, autoescape: bool, **more: Any
) -> str:
    import jinja2

    try:
        return (
            _environment(autoescape).get_template(template).render(_content(results, files), **more)
        )
    except jinja2.UndefinedError as error:
        raise RunFolderError(
            f"manifest.json lacks something that the report shows ({error}): run `tutelage run` "
            "again to write it anew"
        ) from error


def _environment(autoescape: bool) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tutelage.report", "templates"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS, config=_config, families=families, md=escaped)
    environment.tests["told_apart"] = told_apart
    return environment


def _content(results: Results, files: RunFiles) -> dict[str, Any]:
    arms = results.arms
    return {
        "results": results,
        "files": files,
        "findings": findings(results),
        "caveats": caveats(results),
        "verdicts": _VERDICTS,
        "arms": arms,
        "unseen": [arm for arm in arms if arm.test_unseen],
        "comparisons": results.comparisons,
        "comparisons_unseen": results.comparisons_unseen,
        "controls": [arm.name for arm in arms if arm.is_control],
        **_notes(results),
        "beside": beside(results),
        "claims": _claims(results),
        "curve": learning_curve(results),
        "looks": looks_of(results),
        "chance": chance_of(results),
        "baselines": baselines_of(results),
        "teacher_note": results.baselines.teacher_note,
        "costs": costs_of(results),
        "explained": explained(results, files),
        "statuses": RATIONALE_STATUSES,
        "reasons": {
            name: list(why.items())[:_MOST_REASONS]
            for name, why in files.reasons.items()
            if not is_control(results, name)
        },
        "longest": max((len(why) for why in files.reasons.values()), default=0) > _MOST_REASONS,
        "most_reasons": _MOST_REASONS,
    }


def _packed(results: Results, files: RunFiles) -> PackedRows | None:
    return pack_rows(files, results.task.labels) if files.predictions else None


def _notes(results: Results) -> dict[str, Any]:
    """What stands below the tables of differences, and the words that they need.

    within: the margin of equivalence; empty where nothing is compared
    units:  of the tests, with their number; empty where rows are
    """
    comparisons, context = results.comparisons, results.task.context
    within = margin_of(comparisons[0]) if comparisons else ""
    units = units_in_words(comparisons[0], context) if comparisons else ""
    return {
        "context": context,
        "units": units,
        "within": within.removesuffix(" points"),
        "within_note": f"p within: of two one-sided tests that the difference is smaller than "
        f"{within} either way, not corrected."
        if within
        else "",
        "mcnemar_note": f", and it takes rows that share a {context or 'context'} as independent"
        if units
        else "",
        "second_look": _SECOND_LOOK,
    }


def _claims(results: Results) -> list[tuple[ClaimOnTest, ComparisonResult | None]]:
    """What choosing on the test set would have claimed, each with what the experiment found."""
    if results.choosing_on_test is None:
        return []
    found = {(c.arm, c.baseline): c for c in results.comparisons}
    claims = results.choosing_on_test.claims
    return [(claim, found.get((claim.arm, claim.baseline))) for claim in claims]


def _config(config: Configuration) -> str:
    """`learning_rate 0.0012, label_weight 0.25`."""
    return f"learning_rate {config.learning_rate}, label_weight {config.label_weight}"
