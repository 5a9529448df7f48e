"""`synthetic:nli`: generate small ANLI-like examples whose true reasons are known.

A premise is a paragraph about one or two invented people; two or three hypotheses share it. Each
person has a complete record (job, birth, deed, year, place, motive), and the paragraph omits some
of its facts: these are the facts "not stated".

Two rules prevent surface artefacts. Labels are drawn before, and independently of, the facts that
the hypotheses are about. And a neutral hypothesis is made exactly as a true or a false one, from
the complete record: only the paragraph shows which it is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.core.errors import UsageError
from tutelage.core.types import Example

LABELS = ("entailment", "neutral", "contradiction")
DEFAULT_ROWS = 4000
KINDS = ("lookup", "comparison", "swapped_person", "not_stated")
"""The kinds of inference; each example has one as its tag."""

_SHE = (
    *("Mira", "Tova", "Edda", "Lena", "Runa", "Ines", "Olga", "Vera"),
    *("Alma", "Jana", "Cora", "Dina", "Hedda", "Noor", "Petra", "Wanda"),
)
_HE = (
    *("Otto", "Emil", "Aron", "Igor", "Hugo", "Pavel", "Knut", "Leon"),
    *("Bruno", "Timo", "Cyril", "Drago", "Felix", "Nils", "Ruben", "Zoltan"),
)
_SURNAMES = ("Voss", "Kern", "Lund", "Moro", "Bell", "Frey", "Hale", "Rusk", "Tarn", "Sato")


@dataclass(frozen=True, slots=True)
class _Fact:
    """One kind of fact about a person, and its wording.

    claims:  wordings of the hypothesis after the name; the reason quotes the text with the first.
             `{v}` is the value, `{d}` the person's deed
    unknown: the reason's wording where the fact is not stated; `{p}` is the person
    """

    values: tuple[str, ...]
    claims: tuple[str, ...]
    unknown: str


# Few values for each fact, so that a tiny student sees each often enough to learn it.
_PLACES = ("Arden", "Corin", "Delmar", "Elba")
_FACTS = {
    "job": _Fact(
        ("painter", "baker", "doctor"),
        ("was a {v}", "worked as a {v}"),
        "what job {p} had",
    ),
    "birth_year": _Fact(
        tuple(str(year) for year in range(1901, 1906)), ("was born in {v}",), "when {p} was born"
    ),
    "birth_place": _Fact(_PLACES, ("was born in {v}", "came from {v}"), "where {p} was born"),
    "deed": _Fact(
        ("opened a school", "built a bridge", "wrote a book"),
        ("{v}",),
        "what {p} did",
    ),
    "deed_year": _Fact(
        tuple(str(year) for year in range(1931, 1936)), ("{d} in {v}",), "when {p} {d}"
    ),
    "deed_place": _Fact(_PLACES, ("{d} in {v}",), "where {p} {d}"),
    "motive": _Fact(
        ("to help a friend", "to win a bet", "to please a king"),
        ("{d} {v}",),
        "why {p} {d}",
    ),
}
_YEARS = ("birth_year", "deed_year")
_REACH = 2
"""A comparison's year is 1 to _REACH years from the true one, on either side equally often."""
_OMITTED = 3
"""Number of facts about each person that the paragraph omits."""
_ASIDES = 0.25
"""Share of paragraphs with a sentence that is about no person."""


@dataclass(frozen=True, slots=True)
class _Person:
    """A name and the complete record, stated or not."""

    first: str
    last: str
    pronoun: str
    record: dict[str, str]

    def statement(self, name: str) -> str:
        """One fact as the reason words it, without the name."""
        return _FACTS[name].claims[0].format(v=self.record[name], d=self.record["deed"])

    def quote(self, name: str) -> str:
        """The same as a sentence without its full stop."""
        return f"{self.last} {self.statement(name)}"


@dataclass(frozen=True, slots=True)
class _Order:
    """The plan of one hypothesis.

    person:  index of the person that it is about
    form:    `lookup`, `limit` (before or after a year) or `age` (older or younger than the other)
    true:    whether the claim agrees with the complete record, stated or not
    absent:  whether it names a person who is not in the paragraph (always neutral)
    swapped: whether a false value is taken from the other person
    value:   the true value that the person must have, where the claim needs one
    limit:   the year of `limit`
    """

    label: str
    fact: str
    person: int
    form: str
    true: bool
    absent: bool
    swapped: bool
    value: str | None = None
    limit: int = 0


@dataclass(frozen=True, slots=True)
class _Claim:
    """A hypothesis, its kind of inference, and the true reason for its label."""

    hypothesis: str
    kind: str
    reason: str


def generate(n: int, seed: int = 0, *, people: int = 1) -> list[Example]:
    """Generate `n` examples of the task `nli`; equal arguments give equal examples on any machine.

    people: people in a paragraph, 1 or 2. With two, some facts are swapped between them and their
            ages are compared; paragraphs are longer and the task is harder.

    Every prefix of the list is balanced over the labels to within one row, and the list is a prefix
    of any longer one of the same seed. Groups of a list have different premises, and lists of
    different seeds share almost none (about one in 10^9 pairs: a few where both have 100,000 rows).

    Raises UsageError for a negative `n` or other `people`.
    """
    if n < 0 or people not in (1, 2):
        raise UsageError(
            f"synthetic:nli: got n={n}, people={people}, expected n >= 0 and people 1 or 2"
        )
    # `random` hashes a string seed with SHA-512, whatever PYTHONHASHSEED says.
    rng = random.Random(f"tutelage/nli/{people}/{seed}")
    deck: list[str] = []
    examples: list[Example] = []
    seen: set[str] = set()
    while len(examples) < n:
        size = rng.choice((2, 3))
        while len(deck) < size:
            deck.extend(rng.sample(LABELS, 3))
        orders = _draw_orders(rng, deck[:size], people)
        del deck[:size]
        premise, five, claims = _make_group(rng, orders, people)
        while premise in seen:
            premise, five, claims = _make_group(rng, orders, people)
        seen.add(premise)
        for order, claim in zip(orders, claims, strict=True):
            examples.append(
                Example(
                    uid=f"synthetic-{seed}-{len(examples)}",
                    fields={"premise": premise, "hypothesis": claim.hypothesis},
                    label=order.label,
                    reason=claim.reason,
                    tags=(claim.kind,),
                    references={
                        "information_extraction": five,
                        "informed_reasoning": claim.reason,
                    },
                )
            )
    return examples[:n]


def label_answers(row: Example) -> dict[str, str]:
    """What a teacher that is always right says about the label of a generated row, by strategy;
    nothing for other rows."""
    reason = row.references.get("informed_reasoning")
    if reason is None or not row.label:
        return {}
    return {"label": row.label, "chain_of_thought": f"{reason}\n\nLabel: {row.label}"}


def _draw_orders(rng: random.Random, labels: Sequence[str], people: int) -> list[_Order]:
    """Draw an order for each label, each about a different fact, so that no two conflict."""
    orders = []
    for label, fact in zip(labels, rng.sample(list(_FACTS), len(labels)), strict=True):
        form = "lookup"
        if fact in _YEARS and rng.random() < 0.7:
            form = "age" if people == 2 and fact == "birth_year" else "limit"
        # Deeds are always stated, so only the deed of an absent person can be unknown.
        absent = label == "neutral" and form != "age" and (fact == "deed" or rng.random() < 0.1)
        true = rng.random() < 0.5 if label == "neutral" else label == "entailment"
        swapped = people == 2 and rng.random() < 0.5
        value, limit = None, 0
        if form == "limit":
            # The limit is drawn first, from those with as many years in reach on either side, then
            # the true year around it. In the other order, a limit near an end would give it away.
            years = _FACTS[fact].values
            limit = int(rng.choice(years[_REACH:-_REACH]))
            value = str(limit + rng.choice((-1, 1)) * rng.randint(1, _REACH))
        person = rng.randrange(people)
        orders.append(_Order(label, fact, person, form, true, absent, swapped, value, limit))
    return orders


def _make_group(
    rng: random.Random, orders: Sequence[_Order], people: int
) -> tuple[str, str, list[_Claim]]:
    """Draw a premise, its five W answers, and a claim for each order, until all orders fit."""
    while True:
        persons = _draw_people(rng, people)
        for order in orders:
            if order.value is not None:
                persons[order.person].record[order.fact] = order.value
        stated = _choose_stated(rng, orders, people)
        claims = [_claim(rng, order, persons, stated) for order in orders]
        fitting = [claim for claim in claims if claim is not None]
        if len(fitting) == len(orders):
            premise = _premise(rng, persons, stated)
            return premise, _five_w(persons[0], stated[0]), fitting


def _draw_people(rng: random.Random, people: int) -> list[_Person]:
    """Draw people. Two first names make premises distinct at no cost to the student."""
    persons = []
    for last in rng.sample(_SURNAMES, people):
        pronoun, names = rng.choice((("she", _SHE), ("he", _HE)))
        record = {name: rng.choice(fact.values) for name, fact in _FACTS.items()}
        persons.append(_Person(" ".join(rng.sample(names, 2)), last, pronoun, record))
    return persons


def _choose_stated(rng: random.Random, orders: Sequence[_Order], people: int) -> list[set[str]]:
    """Choose the facts that the paragraph states about each person.

    It always omits the same number, so that a paragraph's length is independent of the labels.
    """
    named: list[set[str]] = [{"deed"} for _ in range(people)]
    omitted: list[set[str]] = [set() for _ in range(people)]
    for order in orders:
        if not order.absent:
            (omitted if order.label == "neutral" else named)[order.person].add(order.fact)
        if order.form == "age":
            named[1 - order.person].add(order.fact)
    for known, unknown in zip(named, omitted, strict=True):
        free = [name for name in _FACTS if name not in known and name not in unknown]
        unknown.update(rng.sample(free, _OMITTED - len(unknown)))
    return [set(_FACTS) - unknown for unknown in omitted]


def _claim(
    rng: random.Random, order: _Order, persons: Sequence[_Person], stated: Sequence[set[str]]
) -> _Claim | None:
    """Make the claim that an order describes; None where these people do not allow it."""
    person = persons[order.person]
    other = persons[1 - order.person] if len(persons) == 2 else None
    if order.form == "age" and other is not None:
        return _age_claim(order, person, other)
    fact = _FACTS[order.fact]
    value, deed = person.record[order.fact], person.record["deed"]
    kind = "lookup"
    if order.form == "limit":
        kind, limit = "comparison", order.limit
        relation, opposite = ("before", "after") if int(value) < limit else ("after", "before")
        claimed = f"{relation if order.true else opposite} {limit}"
        text = fact.claims[0].replace("in {v}", "{v}").format(v=claimed, d=deed)
        addition = f". {value} is {relation} {limit}."
    elif order.true:
        text = rng.choice(fact.claims).format(v=value, d=deed)
        addition = ". The hypothesis says the same."
    else:
        owner = other if order.swapped else None
        claimed = owner.record[order.fact] if owner else rng.choice(fact.values)
        if claimed == value:
            return None
        text = rng.choice(fact.claims).format(v=claimed, d=deed)
        addition = f", not {claimed}."
        if owner and order.fact in stated[1 - order.person]:
            kind = "swapped_person"
            addition += f" It is {owner.last} who {owner.statement(order.fact)}."
    if order.absent:
        name = rng.choice([s for s in _SURNAMES if all(s != p.last for p in persons)])
        return _Claim(f"{name} {text}.", "swapped_person", f"The text is not about {name}.")
    reason = f"The text says that {person.quote(order.fact)}{addition}"
    if order.label == "neutral":
        reason = f"The text does not say {fact.unknown.format(p=person.last, d=deed)}."
        kind = kind if kind == "swapped_person" else "not_stated"
    return _Claim(f"{person.last} {text}.", kind, reason)


def _age_claim(order: _Order, person: _Person, other: _Person) -> _Claim | None:
    """Compare two people's ages; None where they were born in one year."""
    mine, theirs = person.record["birth_year"], other.record["birth_year"]
    if mine == theirs:
        return None
    relation, truth, lie = (
        ("before", "older", "younger") if mine < theirs else ("after", "younger", "older")
    )
    hypothesis = f"{person.last} was {truth if order.true else lie} than {other.last}."
    if order.label == "neutral":
        return _Claim(
            hypothesis, "not_stated", f"The text does not say when {person.last} was born."
        )
    reason = f"The text says that {person.quote('birth_year')} and {other.quote('birth_year')}."
    return _Claim(hypothesis, "comparison", f"{reason} {mine} is {relation} {theirs}.")


def _premise(rng: random.Random, persons: Sequence[_Person], stated: Sequence[set[str]]) -> str:
    sentences: list[str] = []
    for person, known in zip(persons, stated, strict=True):
        sentences.extend(_about(rng, person, known, alone=len(persons) == 1))
    if rng.random() < _ASIDES:
        sentences.append(_aside(rng))
    return " ".join(sentences)


def _about(rng: random.Random, person: _Person, known: set[str], *, alone: bool) -> list[str]:
    """Write the sentences about one person. The first has the full name.

    alone: whether later sentences may use a pronoun, because it can refer to nobody else
    """
    record = person.record
    birth = [f"in {record[name]}" for name in ("birth_place", "birth_year") if name in known]
    rng.shuffle(birth)
    clauses = []
    if "job" in known:
        clauses.append(("", rng.choice(("was a", "worked as a")) + " " + record["job"]))
    if birth:
        clauses.append(("", " ".join(["was born", *birth])))
    rng.shuffle(clauses)
    when = f"in {record['deed_year']}" if "deed_year" in known else ""
    first = rng.random() < 0.5
    deed = [record["deed"], "" if first else when]
    deed.append(f"in {record['deed_place']}" if "deed_place" in known else "")
    deed.append(record["motive"] if "motive" in known else "")
    clauses.append((when if first else "", " ".join(part for part in deed if part)))
    sentences = []
    for index, (opening, clause) in enumerate(clauses):
        subject = person.last if index else f"{person.first} {person.last}"
        if index and alone and rng.random() < 0.5:
            subject = person.pronoun
        sentence = " ".join(part for part in (opening, subject, clause) if part)
        sentences.append(sentence[0].upper() + sentence[1:] + ".")
    return sentences


def _aside(rng: random.Random) -> str:
    """Write a sentence about no person, with a place and a year that a hypothesis may also name."""
    place = rng.choice(_PLACES)
    year = rng.choice(_FACTS[rng.choice(_YEARS)].values)
    return rng.choice((f"There was a flood in {place} in {year}.", f"In {year} {place} was small."))


def _five_w(person: _Person, known: set[str]) -> str:
    """Answer the five W questions about the first person's deed, in at most ten words each."""
    record = person.record
    answers = {
        "Who": f"{person.first} {person.last}" + (f", a {record['job']}" if "job" in known else ""),
        "What": record["deed"],
        "When": f"in {record['deed_year']}" if "deed_year" in known else "not stated",
        "Where": f"in {record['deed_place']}" if "deed_place" in known else "not stated",
        "Why": record["motive"] if "motive" in known else "not stated",
    }
    return "\n".join(f"{word}: {answer}" for word, answer in answers.items())
