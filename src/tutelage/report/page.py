"""Writes the report: one self-contained HTML file, and the same in Markdown.

`render_report` and `render_markdown` arrange the results and pass them to templates/report.html.j2
and templates/report.md.j2; `wording` formats every number. In the page jinja2 escapes every name,
in Markdown `markdown.escaped` does.
"""

from __future__ import annotations

import functools
import hashlib
from base64 import b64encode
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tutelage.core import wording
from tutelage.core.errors import RunFolderError
from tutelage.core.results import ClaimOnTest, ComparisonResult, Results
from tutelage.core.storage import write_atomic
from tutelage.core.types import RATIONALE_STATUSES
from tutelage.report.answer import answer_of, answer_sentences, families
from tutelage.report.baseline_table import baselines_of
from tutelage.report.control_arms import control_arms_line
from tutelage.report.costs import costs_of
from tutelage.report.curve_section import learning_curve
from tutelage.report.diagnostic_sections import chance_section, diagnostic_sections
from tutelage.report.explanation_section import explanation_section
from tutelage.report.figures.accuracy import accuracy_plot, forest_plot
from tutelage.report.figures.curve import curve_plot
from tutelage.report.figures.reliability import reliability_plot, risk_coverage_plot, slices_plot
from tutelage.report.figures.worth_plot import worth_plot
from tutelage.report.findings import Conclusion, capital, is_significant
from tutelage.report.markdown import escaped
from tutelage.report.replicates import choices_in_words, replicate_rows, seeds_shares
from tutelage.report.rows import PackedRows, pack_rows
from tutelage.report.run_files import RunFiles, read_run
from tutelage.report.sanity_checks import compared_with_baselines
from tutelage.report.terms import terms
from tutelage.report.units import rows_in_words, units_in_words, with_units
from tutelage.report.worth_section import worth_section

if TYPE_CHECKING:
    import jinja2

__all__ = ["answer_sentences", "render_markdown", "render_report", "write_report"]

NO_FILES = RunFiles()
"""For results without a run folder: the page then has no rows, versions or recipe."""

_FILTERS = {
    "percent": wording.percent,
    "percent_interval": wording.percent_interval,
    "points": wording.points,
    "detectable_points": wording.detectable_points,
    "points_interval": wording.points_interval,
    "p_value": wording.p_value,
    "count": wording.count,
    "dollars": wording.dollars,
    "duration": wording.duration,
    "decimal": wording.decimal,
    "several": wording.several,
    "first_labels": wording.first_labels,
    "rows_in_words": rows_in_words,
    "with_units": with_units,
}
_CONCLUSIONS: Mapping[Conclusion, str] = {
    "content": "Helped, through their content",
    "gain": "Helped; cause not shown",
    "equivalent": "No relevant effect",
    "undetected": "No effect detected",
    "worse": "Lowered {metric}",
}
_MOST_REASONS = 8
_UNSEEN_NOTE = (
    "This is a secondary analysis of the same models, outside the correction above: the answer "
    "does not rest on it."
)


def write_report(folder: Path, page: Path | None = None) -> Path:
    """Write report.html and report.md of a run into its folder; returns the page's path.

    page: the one file that is written instead: Markdown where its name ends in `.md`, else the page
    """
    results, files = read_run(folder)
    title = f"Tutelage: {results.name}"
    html = page if page is not None else folder / "report.html"
    markdown = page if page is not None else folder / "report.md"
    if page is None or page.suffix != ".md":
        write_atomic(html, render_report(results, title=title, files=files))
    if page is None or page.suffix == ".md":
        write_atomic(markdown, render_markdown(results, title=title, files=files))
    return html


def render_report(results: Results, *, title: str, files: RunFiles = NO_FILES) -> str:
    """The page as one string of HTML that fetches nothing from the network.

    files: the other files of the run folder

    Raises RunFolderError where the manifest lacks something.
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
        worth_plot=worth_plot,
        slices_plot=slices_plot,
        reliability_plot=reliability_plot,
        risk_coverage_plot=risk_coverage_plot,
        script=Markup(script),
        script_sha256=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def render_markdown(results: Results, *, title: str, files: RunFiles = NO_FILES) -> str:
    """The same in Markdown for a pull request, without figures and rows. Arguments as above."""
    return _render("report.md.j2", results, files, autoescape=False, title=title)


def _render(
    template: str, results: Results, files: RunFiles, *, autoescape: bool, **more: Any
) -> str:
    import jinja2

    try:
        return (
            environment(autoescape).get_template(template).render(_content(results, files), **more)
        )
    except jinja2.UndefinedError as error:
        raise RunFolderError(
            f"manifest.json lacks something that the report shows ({error}): run `tutelage run` "
            "again to rewrite it"
        ) from error


@functools.cache
def environment(autoescape: bool) -> jinja2.Environment:
    """The templates, with the filters that format every number."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tutelage.report", "templates"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS, choices=choices_in_words, families=families, md=escaped)
    environment.tests["significant"] = is_significant
    return environment


def _content(results: Results, files: RunFiles) -> dict[str, Any]:
    arms = results.arms
    metric = results.metric_name
    return {
        "results": results,
        "metric": metric,
        "Metric": capital(metric),
        "files": files,
        "answer": answer_of(results),
        "terms": terms(results),
        "conclusions": {k: words.format(metric=metric) for k, words in _CONCLUSIONS.items()},
        "arms": arms,
        "unseen": [arm for arm in arms if arm.test_unseen],
        "comparisons": results.comparisons,
        "comparisons_unseen": results.comparisons_unseen,
        "controls": [arm.name for arm in arms if arm.is_control],
        **_notes(results),
        "replicates": replicate_rows(results),
        "seeds_shares": seeds_shares(results),
        "compared": compared_with_baselines(results),
        "control_arms_line": control_arms_line(results.control_comparisons),
        "claims": _claims(results),
        "curve": learning_curve(results),
        "bought": worth_section(results),
        "diagnostics": diagnostic_sections(results),
        "chance": chance_section(results),
        "baselines": baselines_of(results),
        "teacher_note": results.baselines.teacher_note,
        "costs": costs_of(results),
        "explained": explanation_section(results, files),
        "statuses": RATIONALE_STATUSES,
        "reasons": {
            name: list(why.items())[:_MOST_REASONS]
            for name, why in files.reasons.items()
            if not results.arm(name).is_control
        },
        "longest": max((len(why) for why in files.reasons.values()), default=0) > _MOST_REASONS,
        "most_reasons": _MOST_REASONS,
    }


def _packed(results: Results, files: RunFiles) -> PackedRows | None:
    return pack_rows(files, results.task.labels) if files.predictions else None


def _notes(results: Results) -> dict[str, Any]:
    """The notes below the tables of differences, and the words that they use.

    within: the margin of equivalence; empty where nothing is compared
    units:  of the tests, with their number; empty where rows are the units
    """
    comparisons, context = results.comparisons, results.task.context
    within = wording.margin_in_points(comparisons[0].equivalence_margin) if comparisons else ""
    units = units_in_words(comparisons[0], context) if comparisons else ""
    return {
        "context": context,
        "units": units,
        "within": within.removesuffix(" points"),
        "within_note": f"p within: p-value of two one-sided tests that the difference is smaller "
        f"than {within} either way, not corrected."
        if within
        else "",
        "mcnemar_note": f", and it treats rows that share a {context or 'context'} as independent"
        if units
        else "",
        "unseen_note": _UNSEEN_NOTE,
    }


def _claims(results: Results) -> list[tuple[ClaimOnTest, ComparisonResult | None]]:
    """The claims of choosing on the test set, each with the difference that was measured."""
    if results.choosing_on_test is None:
        return []
    found = {(c.arm, c.baseline): c for c in results.comparisons}
    claims = results.choosing_on_test.claims
    return [(claim, found.get((claim.arm, claim.baseline))) for claim in claims]
