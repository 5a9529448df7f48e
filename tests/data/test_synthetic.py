import re
import subprocess
import sys
import time
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.errors import UsageError
from tutelage.core.storage import digest
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.data.split import check_splits
from tutelage.data.synthetic import KINDS, LABELS, generate

BOTH = pytest.mark.parametrize("people", [1, 2])


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 200), st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_any_size_is_balanced_distinct_and_a_prefix(n: int, seed: int, people: int) -> None:
    examples = generate(n, seed, people=people)
    assert len(examples) == n
    counts = Counter(e.label for e in examples)
    assert all(abs(3 * counts[label] - n) < 3 for label in LABELS)
    assert len({(e.fields["premise"], e.fields["hypothesis"]) for e in examples}) == n
    assert [e.uid for e in examples] == [f"synthetic-{seed}-{i}" for i in range(n)]
    assert examples == generate(n + 7, seed, people=people)[:n]


@BOTH
def test_every_row_is_complete(people: int) -> None:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in generate(600, 3, people=people):
        groups[example.fields["premise"]].append(example)
        assert set(example.fields) == set(NLI.fields)
        assert len(example.tags) == 1
        assert example.tags[0] in KINDS
        assert example.references["informed_reasoning"] == example.reason
        five = example.references["information_extraction"].split("\n")
        assert [line.split(": ")[0] for line in five] == ["Who", "What", "When", "Where", "Why"]
        for line in five:
            answer = line.split(": ", 1)[1]
            assert 1 <= len(answer.split()) <= 10
            known = {*words(example.fields["premise"].lower()), *words(", a not stated")}
            assert set(words(answer.lower())) <= known
        everything = " ".join((*example.fields.values(), example.reason or ""))
        assert "{" not in everything
        assert not any(label in everything.lower() for label in LABELS)
    # A premise is answered once for all its hypotheses, so the answer must not depend on one.
    for rows in groups.values():
        assert len({r.references["information_extraction"] for r in rows}) == 1
    assert {len(rows) for rows in groups.values()} >= {2, 3}


def test_each_kind_has_its_labels() -> None:
    for people in (1, 2):
        seen = {(e.tags[0], e.label) for e in generate(3000, 1, people=people)}
        assert {kind for kind, _ in seen} == set(KINDS)
        assert {label for kind, label in seen if kind == "not_stated"} == {"neutral"}
        for kind in ("lookup", "comparison"):
            assert {label for k, label in seen if k == kind} == {"entailment", "contradiction"}
    assert ("swapped_person", "contradiction") in seen  # two people: another's fact


def derived_label(example: Example) -> str:
    """The label, derived independently from the two texts."""
    premise, hypothesis = example.fields["premise"], example.fields["hypothesis"].rstrip(".")
    sentences = premise.rstrip(".").split(". ")
    subject, claim = hypothesis.split(" ", 1)
    if subject not in words(premise):
        return "neutral"
    about = [s for s in sentences if {subject, "She", "He", "she", "he"} & set(words(s))]
    if match := re.fullmatch(r"was (older|younger) than (\w+)", claim):
        births = [
            next((m[1] for s in sentences if (m := re.search(rf"{n} was born.* (\d+)", s))), None)
            for n in (subject, match[2])
        ]
        if births[0] is None or births[1] is None:
            return "neutral"
        older = int(births[0]) < int(births[1])
        return "entailment" if older == (match[1] == "older") else "contradiction"
    born = next((s for s in about if " was born" in s), "")
    deed = about[-1]
    job = next((m[2] for s in about if (m := re.search(r"(was|worked as) a (\w+)$", s))), None)
    if match := re.fullmatch(r"(?:was|worked as) a (\w+)", claim):
        stated, claimed = job, match[1]
    elif match := re.fullmatch(r"(?:was born in|came from) ([A-Z]\w+)", claim):
        found = re.search(r"in ([A-Z]\w+)", born)
        stated, claimed = found and found[1], match[1]
    elif match := re.fullmatch(r"was born (in|before|after) (\d+)", claim):
        return _year(born, *match.groups())
    elif match := re.fullmatch(r"(.+) (in|before|after) (\d+)", claim):
        return _year(deed, match[2], match[3])
    elif match := re.fullmatch(r"(.+) in ([A-Z]\w+)", claim):
        found = re.search(r"in ([A-Z]\w+)", deed)
        stated, claimed = found and found[1], match[2]
    elif match := re.fullmatch(r"(.+) (to \w+ .+)", claim):
        found = re.search(r"\b(to .+)$", deed)
        stated, claimed = found and found[1], match[2]
    else:
        return "entailment" if claim in deed else "contradiction"
    if stated is None:
        return "neutral"
    return "entailment" if stated == claimed else "contradiction"


def _year(sentence: str, relation: str, year: str) -> str:
    found = re.search(r"[Ii]n (\d+)", sentence)
    if found is None:
        return "neutral"
    stated, claimed = int(found[1]), int(year)
    holds = {"in": stated == claimed, "before": stated < claimed, "after": stated > claimed}
    return "entailment" if holds[relation] else "contradiction"


@BOTH
def test_labels_follow_from_the_texts(people: int) -> None:
    for example in generate(3000, 11, people=people):
        assert derived_label(example) == example.label, example


@BOTH
def test_reasons_quote_the_text_correctly(people: int) -> None:
    for example in generate(1500, 12, people=people):
        assert example.reason is not None
        known = set(words(example.fields["premise"])) | set(words("The text says that was a"))
        if example.label == "neutral":
            assert re.match(r"The text (does not say|is not about) ", example.reason)
            continue
        quote = re.match(r"(The text says that .+?)(, not |\. )", example.reason)
        assert quote is not None
        assert set(words(quote[1])) - {"and", "in"} <= known, example
        assert example.fields["hypothesis"].split()[0] in words(quote[1])


@BOTH
def test_different_seeds_give_different_premises(people: int) -> None:
    train, dev, test = (generate(2000, seed, people=people) for seed in (1, 2, 3))
    overlap = check_splits(train, dev, test, NLI).overlap
    assert (overlap.dev_rows, overlap.test_rows) == (0, 0)


@BOTH
def test_the_vocabulary_is_small(people: int) -> None:
    used: set[str] = set()
    for e in generate(4000, 0, people=people):
        for text in (*e.fields.values(), *e.references.values()):
            used.update(words(text))
    assert 110 <= len(used) <= 250


def test_the_same_in_another_process() -> None:
    code = (
        "from tutelage.data.synthetic import generate\n"
        "from tutelage.core.storage import digest\n"
        "print(digest(generate(500, 9, people=2)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "77"}, capture_output=True, text=True
    )
    assert printed.stdout.strip() == digest(generate(500, 9, people=2)), printed.stderr


@BOTH
@pytest.mark.parametrize("field", ["hypothesis", "premise"])
def test_one_field_alone_does_not_predict_the_label(people: int, field: str) -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    train, test = generate(6000, 1, people=people), generate(3000, 2, people=people)
    vectorizer = text.CountVectorizer(ngram_range=(1, 2))
    features = vectorizer.fit_transform([e.fields[field] for e in train])
    model = linear.LogisticRegression(C=0.1, max_iter=500)
    model.fit(features, [e.label for e in train])
    accuracy = model.score(
        vectorizer.transform([e.fields[field] for e in test]), [e.label for e in test]
    )
    assert accuracy < 0.37  # 1/3 and four standard errors


def test_it_is_fast() -> None:
    start = time.process_time()
    generate(5000, 0, people=2)
    assert time.process_time() - start < 5000 * 3e-4  # generous: some 4e-5 s a row is usual


@pytest.mark.parametrize("arguments", [{"n": -1}, {"n": 5, "people": 0}, {"n": 5, "people": 3}])
def test_wrong_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="people 1 or 2"):
        generate(**arguments)
