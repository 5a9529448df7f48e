"""Publishes a folder of files: to a new folder, or to a repository of the Hugging Face hub.

Nothing is taken from a folder because it lies there: a model's files are those that its record
lists, with their digests, and its card. Whatever else is in the folder stops the publication.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.core.errors import RunFolderError, UsageError
from tutelage.core.storage import write_atomic

HUB = "hf:"
CARD = "README.md"

Kind = Literal["model", "dataset"]

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""OWNER/NAME, as the hub names a repository."""

_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_LEAST_SECRET = 8
_SECRETS = re.compile(
    r"(?<![\w-])(?:(?:sk|hf|ghp|gho|ghs|github_pat|glpat|xox[abprs])[-_]|AKIA|AIza)"
    r"(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_ABSOLUTE = re.compile(
    r"file://\S+|(?<![\w./~)-])~?/(?!/)(?:[\w.@+-]+/)+[\w.@+-]*|(?<!\w)[A-Za-z]:\\[\w.\\ -]+"
)
_WRITTEN = re.compile(r"\.md$|config[^/]*\.json$|^export\.json$|^tutelage\.json$")
"""Files whose text was written for readers and programs, not a vocabulary."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a publication: its name there, and what it holds."""

    name: str
    source: Path | str

    @property
    def size(self) -> int:
        """In bytes."""
        if isinstance(self.source, str):
            return len(self.source.encode("utf-8"))
        return self.source.stat().st_size


@dataclass(frozen=True, slots=True)
class Publication:
    """What is, or would be, published.

    target: a folder, or `hf:OWNER/NAME`
    where:  the address or the folder, once it is done; else empty
    notes:  what is missing before it can be done, or should be known
    """

    target: str
    kind: Kind
    files: tuple[Content, ...]
    notes: tuple[str, ...] = ()
    where: str = ""


def check_target(target: str) -> None:
    """Raise UsageError for a target that cannot be published to."""
    if target.startswith(HUB):
        if not HUB_NAME.fullmatch(target.removeprefix(HUB)):
            raise UsageError(f"{target}: expected hf:OWNER/NAME, or a folder")
    elif Path(target).exists():
        raise UsageError(f"{target}: exists already: name another folder")


def listed_files(folder: Path, digests: Mapping[str, str], record: str) -> list[Content]:
    """The files of a model by its record, without the card.

    Raises UsageError where the folder holds anything else.
    """
    wanted = {*digests, record}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if others := sorted(there - wanted - {CARD}):
        raise UsageError(
            f"{folder / others[0]}: is no part of the model"
            + (f" (nor are {len(others) - 1} other files)" if len(others) > 1 else "")
            + ": move it elsewhere, so that nothing is published by accident"
        )
    return [Content(name, folder / name) for name in sorted(wanted)]


def check_contents(files: Sequence[Content]) -> None:
    """Raise UsageError for what must not be published: ledgers, secrets, absolute paths."""
    for file in files:
        if isinstance(file.source, Path):
            with file.source.open("rb") as opened:
                if opened.read(15) == b"SQLite format 3":
                    raise UsageError(f"{file.name}: is a database, such as a ledger: leave it out")
            if not _WRITTEN.search(file.name):
                continue
        for number, line in enumerate(_text(file).splitlines(), 1):
            where = f"{file.name}, line {number}"
            for what in secrets_in(line):
                raise UsageError(f"{where}: holds {what}: remove it before anything is published")
            if _WRITTEN.search(file.name) and (found := _ABSOLUTE.search(line)):
                raise UsageError(
                    f"{where}: names a path of this machine ({found[0]}): write what it stands for"
                )


def without_folders(text: str) -> str:
    """A text in which each absolute path is the name of its file or folder alone."""
    return _ABSOLUTE.sub(lambda path: re.split(r"[/\\]", path[0].rstrip("/\\"))[-1], text)


def secrets_in(line: str) -> Iterator[str]:
    """What in a line is a secret of this environment, or has the form of one. Never repeats it."""
    for name, value in os.environ.items():
        if _SECRET_NAMES.search(name) and len(value) >= _LEAST_SECRET and value in line:
            yield f"the value of the environment variable {name}"
    if _SECRETS.search(line):
        yield "what looks like a key"


def _text(file: Content) -> str:
    if isinstance(file.source, str):
        return file.source
    return file.source.read_text(encoding="utf-8", errors="replace")


def write_publication(publication: Publication, *, public: bool = False) -> str:
    """Publish, and return where it is.

    public: whether a repository that is made for it is public

    Raises UsageError where the hub's token is missing, RunFolderError where the hub refuses.
    """
    target = Path(publication.target)
    if not publication.target.startswith(HUB):
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            _lay_out(publication.files, part)
            part.rename(target)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise RunFolderError(
                f"{target}: cannot be written ({error.strerror or error}): name another folder, or "
                "free disk space"
            ) from error
        return str(target)
    with tempfile.TemporaryDirectory(prefix="tutelage-") as name:
        staged = Path(name) / "repository"
        _lay_out(publication.files, staged)
        return _upload(staged, publication, public)


def _lay_out(files: Sequence[Content], folder: Path) -> None:
    for file in files:
        place = folder / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.source, str):
            write_atomic(place, file.source)
        else:
            shutil.copyfile(file.source, place)


def _upload(folder: Path, publication: Publication, public: bool) -> str:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not get_token():
        raise UsageError("no token for the hub: `hf auth login`, or set HF_TOKEN")
    api, repository = HfApi(), publication.target.removeprefix(HUB)
    try:
        made: Any = api.create_repo(
            repository, repo_type=publication.kind, private=not public, exist_ok=True
        )
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type=publication.kind,
            commit_message="Publish with tutelage",
        )
    except (HfHubHTTPError, OSError) as error:
        line = " ".join(str(error).split())[:300]
        raise RunFolderError(f"{publication.target}: the hub did not take it ({line})") from error
    return str(made)
