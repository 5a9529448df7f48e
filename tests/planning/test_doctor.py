"""`doctor` on trackers: which are installed, and whether they can work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.planning.doctor import examine

Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login, no settings, and only the packages that a test installs."""
    for name in list(os.environ):
        if name.startswith(("WANDB", "TRACKIO", "HF_TOKEN", "NETRC")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "packages")


def install(tmp_path: Path, package: str) -> None:
    """A package of that name and version 9.1, as importlib sees it."""
    for folder, file, text in (
        (package, "__init__.py", ""),
        (f"{package}-9.1.dist-info", "METADATA", f"Name: {package}\nVersion: 9.1\n"),
    ):
        (tmp_path / "packages" / folder).mkdir(parents=True)
        (tmp_path / "packages" / folder / file).write_text(text, encoding="utf-8")


def said(name: str, make: Make | None = None) -> tuple[str, str]:
    """The status and text of one tracker; with `make`, for a recipe that names it."""
    recipe = None
    if make is not None:
        values = make(arms=[{"name": "labels"}])
        values["student"]["tracking"] = [name]
        recipe = parse_recipe(values)
    (finding,) = [f for f in examine(recipe) if f.what == f"tracker {name}"]
    return finding.status, finding.found


def test_a_missing_tracker_matters_to_a_recipe_that_names_it(small_recipe: Make) -> None:
    status, found = said("trackio")
    assert status == "optional"
    assert "pip install trackio" in found
    assert said("trackio", small_recipe) == ("missing", found)


def test_wandb_needs_a_key_or_to_be_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_recipe: Make
) -> None:
    install(tmp_path, "wandb")
    status, found = said("wandb")
    assert status == "optional"
    assert found.startswith("9.1, no key for api.wandb.ai: `wandb login`")
    assert said("wandb", small_recipe) == ("missing", found)

    (tmp_path / ".netrc").write_text(
        "machine api.wandb.ai login user password secret-of-mine\n", encoding="utf-8"
    )
    assert said("wandb") == ("ok", "9.1, a key for api.wandb.ai was found")
    monkeypatch.setenv("WANDB_BASE_URL", "https://own.example:8080/")
    assert said("wandb")[0] == "optional"
    (tmp_path / ".netrc").write_text("machine\n", encoding="utf-8")  # damaged
    assert said("wandb")[0] == "optional"
    monkeypatch.setenv("WANDB_API_KEY", "secret-of-mine")
    assert said("wandb") == ("ok", "9.1, a key for own.example was found")

    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert said("wandb")[0] == "optional"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "offline")
    status, found = said("wandb", small_recipe)
    assert status == "ok"
    assert "`wandb sync`" in found


def test_trackio_needs_a_token_only_for_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "trackio")
    assert said("trackio") == (
        "ok",
        "9.1, runs are kept in the Hugging Face cache, without an account",
    )
    monkeypatch.setenv("TRACKIO_DIR", "/elsewhere")
    assert "/elsewhere" in said("trackio")[1]
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/mine")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    status, found = said("trackio")
    assert status == "optional"
    assert "HF_TOKEN" in found
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    assert said("trackio") == ("ok", "9.1, runs go to the Space me/mine")
