import pytest

from tutelage.core.environment import expand_variables
from tutelage.core.errors import UsageError


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", "/data")
    monkeypatch.setenv("BLANK_ONE", "")
    monkeypatch.delenv("UNSET_ONE", raising=False)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${SOME_FOLDER}/a.jsonl", "/data/a.jsonl"),
        ("${SOME_FOLDER:-../x}/a", "/data/a"),
        ("${UNSET_ONE:-../x/y}/a", "../x/y/a"),
        ("${BLANK_ONE:-z}${SOME_FOLDER}", "z/data"),
        ("${UNSET_ONE:-}a", "a"),
        ("$SOME_FOLDER costs 5$ {x} ${", "$SOME_FOLDER costs 5$ {x} ${"),
    ],
)
def test_expansion(text, expanded):
    assert expand_variables(text) == expanded


@pytest.mark.parametrize("text", ["${UNSET_ONE}/a", "${SOME_FOLDER}/${UNSET_ONE}"])
def test_an_unset_variable_is_named(text):
    with pytest.raises(UsageError, match="UNSET_ONE"):
        expand_variables(text)
