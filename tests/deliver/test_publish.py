"""What is published is listed first, is all of the model, and nothing else."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from students import TASK, Made
from typer.testing import CliRunner

from tutelage import Student
from tutelage.cli.main import app
from tutelage.config.publish_settings import PublishSettings
from tutelage.config.recipe_file import load_recipe
from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.storage import as_json, read_jsonl, write_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Rationale
from tutelage.data.load import load_examples
from tutelage.deliver.publication import without_folders
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.publish_run import publish

BOTH = PublishSettings(licence="apache-2.0", data_licence="cc-by-4.0")
RUNNER = CliRunner()


@pytest.fixture
def export(made: Callable[[str], Made], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made("t5").export.folder, tmp_path / "student"))


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_dry_run_lists_every_file_with_its_size_and_writes_nothing(
    export: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    done = RUNNER.invoke(app, ["publish", str(export), str(target)])
    assert done.exit_code == 0, done.output
    lines = {line.split()[-1]: line.split()[0] for line in done.stdout.splitlines()}
    for name in names(export) - {"README.md"}:
        assert lines[name] == f"{(export / name).stat().st_size:,}"
    assert "README.md" in lines and not target.exists()
    assert "missing: the licence is not named" in done.output
    assert "missing: the licence of the data is not named" in done.output
    refused = RUNNER.invoke(app, ["publish", str(export), str(target), "--yes"])
    assert isinstance(refused.exception, UsageError) and not target.exists()


def test_an_export_is_published_whole_and_still_predicts(export: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    command = ["publish", str(export), str(target), "--yes", "--licence", "apache-2.0"]
    done = RUNNER.invoke(app, [*command, "--data-licence", "cc-by-4.0"])
    assert done.exit_code == 0, done.output
    assert names(target) == names(export)
    card = (target / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "apache-2.0" and header["tags"] == ["tutelage"]
    assert "licence of the data: cc-by-4.0" in card and "Name it here" not in card
    row = {"note": "the red door", "claim": "a lamp"}
    assert Student.load(target).predict([row])[0] == Student.load(export).predict([row])[0]
    with pytest.raises(UsageError, match="exists already"):
        publish(export, str(target), BOTH)


def test_a_checkpoint_gets_a_card(made: Callable[[str], Made], tmp_path: Path) -> None:
    model = made("t5").checkpoint
    publish(model, str(tmp_path / "out"), BOTH, do_it=True)
    assert names(tmp_path / "out") == names(model) | {"README.md"}
    assert Student.load(tmp_path / "out").record == Student.load(model).record


def ledger(folder: Path) -> None:
    sqlite3.connect(folder / "ledger.sqlite").execute(
        "CREATE TABLE answers (key)"
    ).connection.close()


def card(text: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        with (folder / "README.md").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    return add


def other(name: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x", encoding="utf-8")

    return add


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (ledger, "ledger.sqlite: is no part of the model"),
        (other(".env"), ".env: is no part of the model"),
        (other("labels/notes.txt"), "labels/notes.txt: is no part of the model"),
        (card("The key is sk-proj-abcdefgh12345678abcdefgh."), "holds what looks like a key"),
        (card("-----BEGIN RSA PRIVATE KEY-----"), "holds what looks like a key"),
        (card("Ask with plain words as in correct-horse."), "environment variable MY_SERVER_KEY"),
        (card("- train: `/home/someone/rows/train.jsonl`"), "(/home/someone/rows/train.jsonl)"),
        (card("- train: `~/rows/train.jsonl`"), "names a path of this machine"),
        (card("- train: C:\\Users\\someone\\train.csv"), "names a path of this machine"),
        (card("- train: file:///srv/train.csv"), "names a path of this machine"),
        (card("- rationales by recorded:/srv/answers.jsonl#k"), "(/srv/answers.jsonl)"),
    ],
)
def test_what_must_not_be_published_is_refused(
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    says: str,
) -> None:
    monkeypatch.setenv("MY_SERVER_KEY", "correct-horse")
    damage(export)
    for do_it in (False, True):
        with pytest.raises(UsageError) as raised:
            publish(export, str(tmp_path / "out"), BOTH, do_it=do_it)
        assert says in str(raised.value)
        assert "correct-horse" not in str(raised.value) and "sk-proj" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_what_only_looks_like_a_path_is_published(export: Path, tmp_path: Path) -> None:
    card("See https://example.org/a/b/c, and/or 3/4/5, owner/name, data/train.jsonl.")(export)
    assert publish(export, str(tmp_path / "out"), BOTH)[0].notes == ()


class Hub:
    """The part of `HfApi` that is called, with the arguments of its documentation."""

    made: list[dict[str, Any]]
    uploaded: list[dict[str, Any]]
    fails: Exception | None = None

    def create_repo(self, repo_id: str, **options: Any) -> str:
        if Hub.fails is not None:
            raise Hub.fails
        Hub.made.append({"repo_id": repo_id, **options})
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, folder_path: Path, **options: Any) -> None:
        Hub.uploaded.append({"names": names(Path(folder_path)), **options})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    import inspect

    import huggingface_hub

    # The stub takes nothing that the real interface does not.
    for name, used in (
        ("create_repo", {"repo_id", "repo_type", "private", "exist_ok"}),
        ("upload_folder", {"repo_id", "folder_path", "repo_type", "commit_message"}),
    ):
        known = inspect.signature(getattr(huggingface_hub.HfApi, name)).parameters
        assert used <= set(known)
    Hub.made, Hub.uploaded, Hub.fails = [], [], None
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    return Hub


def test_the_hub_gets_a_private_repository_and_the_same_files(export: Path, hub: type[Hub]) -> None:
    dry = publish(export, "hf:me/rooms", BOTH)
    assert hub.made == hub.uploaded == [] and dry[0].where == ""
    (done,) = publish(export, "hf:me/rooms", BOTH, do_it=True)
    assert done.where == "https://hub.example/me/rooms"
    assert hub.made == [
        {"repo_id": "me/rooms", "repo_type": "model", "private": True, "exist_ok": True}
    ]
    (uploaded,) = hub.uploaded
    assert uploaded["names"] == names(export) and uploaded["repo_type"] == "model"
    publish(export, "hf:me/rooms", BOTH.replace(public=True), do_it=True)
    assert hub.made[1]["private"] is False
    with pytest.raises(UsageError, match="expected hf:OWNER/NAME"):
        publish(export, "hf:rooms", BOTH)
    hub.fails = OSError("no way")
    with pytest.raises(RunFolderError, match="the hub did not take it"):
        publish(export, "hf:me/rooms", BOTH, do_it=True)


def test_without_a_token_nothing_is_sent(
    export: Path, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UsageError, match="no token for the hub"):
        publish(export, "hf:me/rooms", BOTH, do_it=True)
    assert hub.made == []


def test_the_data_are_published_with_a_card_of_their_own(
    made: Callable[[str], Made], tmp_path: Path, small_recipe: Callable[..., dict[str, Any]]
) -> None:
    run = tmp_path / "run"
    (run / "rationales").mkdir(parents=True)
    recipe = small_recipe()
    # A file that is named by its place on this machine, which is nobody's business.
    rows = load_examples(recipe["data"]["train"], NLI)
    train_file = tmp_path / "rows" / "train.jsonl"
    write_jsonl(train_file, [{"uid": e.uid, **e.fields, "label": e.label} for e in rows])
    recipe["data"]["train"] = str(train_file)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    place = run / "arms" / "labels" / "lr-1" / "seed-0"
    shutil.copytree(made("t5").checkpoint, place / "model")
    train = load_splits(load_recipe(str(run / "recipe.yaml"))).train
    found = [
        Rationale(row.uid, "informed_reasoning", f"because {n}", "ok" if n else "refused")
        for n, row in enumerate(train)
    ]
    for arm in ("reasoning", "reasoning-shuffled"):
        write_jsonl(run / "rationales" / f"{arm}.jsonl", map(as_json, found))
    settings = BOTH.replace(data=str(tmp_path / "data"))
    model, data = publish(place / "model", str(tmp_path / "out"), settings, do_it=True)
    assert (model.kind, data.kind) == ("model", "dataset")
    assert names(tmp_path / "data") == {"README.md", "data/train.jsonl"}
    lines = list(read_jsonl(tmp_path / "data" / "data" / "train.jsonl"))
    assert len(lines) == len(train)
    assert lines[0]["rationale_reasoning"] is None  # refused: nothing to learn from
    assert lines[1] == {
        "uid": train[1].uid, **train[1].fields, "label": train[1].label,
        "rationale_reasoning": "because 1",
    }  # fmt: skip
    text = (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "cc-by-4.0"
    assert "- rows: `train.jsonl`" in text and str(tmp_path) not in text
    assert f"{len(train) - 1:,} of {len(train):,} usable" in text and "never an input" in text
    assert json.dumps("shuffled") not in text
    with pytest.raises(UsageError, match="--data: name the folder of a run"):
        publish(made("t5").export.folder, str(tmp_path / "x"), settings)


def test_a_card_that_is_written_names_files_without_their_folders() -> None:
    for path, name in (
        ("/srv/rows/train.jsonl?n=9", "train.jsonl?n=9"),
        ("~/rows/a.csv", "a.csv"),
        ("C:\\rows\\a.csv", "a.csv"),
        ("file:///srv/rows/a.csv", "a.csv"),
        ("recorded:/srv/answers.jsonl#k", "recorded:answers.jsonl#k"),
        ("hf:owner/name#train", "hf:owner/name#train"),
        ("rows/train.csv", "rows/train.csv"),
    ):
        assert without_folders(f"- train: `{path}`.") == f"- train: `{name}`."


def test_a_folder_that_cannot_be_written_is_one_line(export: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunFolderError, match="cannot be written"):
        publish(export, str(tmp_path / "file" / "out"), BOTH, do_it=True)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "student"}


def test_the_task_of_the_tests_is_in_the_card(export: Path, tmp_path: Path) -> None:
    (found,) = publish(export, str(tmp_path / "out"), BOTH)
    (readme,) = (file.source for file in found.files if file.name == "README.md")
    assert isinstance(readme, str) and ", ".join(TASK.labels) in readme
