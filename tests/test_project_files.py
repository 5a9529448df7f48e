"""The files about the project agree with it: CITATION.cff and the hosted workflow."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    values: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return values["project"]  # type: ignore[no-any-return]


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert citation["keywords"] == project()["keywords"]
    assert citation["abstract"].startswith(project()["description"])


def test_the_citation_has_what_its_format_requires() -> None:
    citation = read("CITATION.cff")
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "The Tutelage developers"}]
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
    assert [r["url"].rsplit("/", 1)[1] for r in citation["references"]] == [
        "2409.12599",
        "2305.02301",
    ]


def test_the_hosted_workflow_calls_make_test() -> None:
    workflow = read(".github/workflows/test.yml")
    job = workflow["jobs"]["test"]
    assert "make test" in [step.get("run") for step in job["steps"]]
    assert "secrets" not in (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    supported = [
        classifier.rsplit(" ", 1)[1]
        for classifier in project()["classifiers"]
        if classifier.startswith("Programming Language :: Python :: 3.")
    ]
    assert job["strategy"]["matrix"]["python"] == supported
    assert "\ntest: check\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", [f for f in FORMS if f.name != "config.yml"], ids=lambda f: f.stem)
def test_a_form_for_issues_has_what_its_format_requires(form: Path) -> None:
    values = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(values)
    inputs = [each for each in values["body"] if each["type"] != "markdown"]
    assert inputs and {each["type"] for each in inputs} <= {"textarea", "input", "dropdown"}
    names = [each["id"] for each in inputs]
    assert len(set(names)) == len(names)
    assert all(each["attributes"]["label"] for each in inputs)
    assert any(each.get("validations", {}).get("required") for each in inputs)


@pytest.mark.parametrize("page", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_between_the_project_s_files_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    lost = [link for link in links if not (ROOT / link.partition("#")[0]).exists()]
    assert not lost


def test_the_release_steps_name_scripts_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    scripts = set(re.findall(r"scripts/\w+\.sh", text))
    assert scripts == {"scripts/check_wheel.sh", "scripts/check_versions.sh"}
    assert all((ROOT / script).stat().st_mode & 0o100 for script in scripts)
