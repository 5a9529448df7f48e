"""The report: one HTML file that needs nothing but itself.

`render_report` arranges the results and hands them to templates/report.html.j2; every number is
formatted by `wording`, every name is escaped by jinja2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.errors import RunFolderError
from tutelage.records import RATIONALE_STATUSES
from tutelage.report import wording
from tutelage.report.answer import answer_sentences, is_control, told_apart
from tutelage.report.figures import accuracy_plot, forest_plot

__all__ = ["answer_sentences", "render_report"]

_FILTERS = {
    "percent": wording.percent,
    "percent_interval": wording.percent_interval,
    "points": wording.points,
    "points_interval": wording.points_interval,
    "p_value": wording.p_value,
    "count": wording.count,
    "dollars": wording.dollars,
    "decimal": wording.decimal,
    "several": wording.several,
}


def render_report(results: Mapping[str, Any], *, title: str) -> str:
    """The page as one string of HTML, without a network address to fetch from.

    results: the content of results.json. Raises RunFolderError where it lacks something.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tutelage.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    environment.filters["config"] = _config
    environment.tests["told_apart"] = told_apart
    try:
        return environment.get_template("report.html.j2").render(
            _content(results), title=title, statuses=RATIONALE_STATUSES
        )
    except (KeyError, jinja2.UndefinedError) as error:
        raise RunFolderError(
            f"results.json lacks something that the report shows ({error}): run `tutelage run` "
            "again to write it anew"
        ) from error


def _content(results: Mapping[str, Any]) -> dict[str, Any]:
    arms = [arm for arm in results["arms"] if arm.get("test")]
    unseen = [arm for arm in arms if arm.get("test_unseen")]
    comparisons = results["comparisons"]
    comparisons_unseen = results.get("comparisons_unseen") or []
    controls = [arm["name"] for arm in arms if is_control(results, arm["name"])]
    return {
        "results": results,
        "answer": answer_sentences(results),
        "arms": arms,
        "unseen": unseen,
        "comparisons": comparisons,
        "comparisons_unseen": comparisons_unseen,
        "controls": controls,
        "claims": _claims(results),
        "forest": forest_plot(comparisons, controls, "forest"),
        "accuracies": accuracy_plot(arms, "accuracies"),
        "forest_unseen": forest_plot(comparisons_unseen, controls, "forest-unseen"),
        "most_seeds": max((len(arm["seeds"]) for arm in arms), default=0),
    }


def _claims(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What choosing on the test set would have claimed, beside what the experiment found."""
    found = {(c["arm"], c["baseline"]): c for c in results["comparisons"]}
    chosen = results.get("choosing_on_test") or {"claims": []}
    return [
        {**claim, "found": found.get((claim["arm"], claim["baseline"]))}
        for claim in chosen["claims"]
    ]


def _config(config: Mapping[str, Any]) -> str:
    """`learning_rate 0.0012, label_weight 0.25`, without what the arm does not have."""
    return ", ".join(f"{key} {value}" for key, value in config.items() if value is not None)
