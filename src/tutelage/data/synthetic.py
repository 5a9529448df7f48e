"""`synthetic:nli`: our own generator of small ANLI-like examples whose true reasons are known.

A premise is a paragraph about one or two invented people; two or three hypotheses share it. Behind
a premise stands a complete record (job, birth, deed, year, place, motive) of which the paragraph
leaves some facts out: those are what "a fact not stated" means.

Two things keep surface artefacts out. Labels are dealt before, and independently of, the facts that
the hypotheses are about. And a neutral hypothesis is made exactly as a true or a false one is, from
the hidden record: only the paragraph can tell.
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
"""The kinds of inference; each example carries one as its tag."""

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
    """One thing to know about a person, and the words for it.

    claims:  forms of the hypothesis after the name; the first is also how the reason quotes the
             text. `{v}` is the value, `{d}` the person's deed
    unknown: how the reason says that the text leaves it open; `{p}` is the person
    """

    values: tuple[str, ...]
    claims: tuple[str, ...]
    unknown: str


# Few values a fact: a tiny student has to see each often enough to learn what it is the same as.
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
"""A comparison's year lies 1 to _REACH years from the true one, on either side equally often."""
_OMITTED = 3
"""How many facts about each person the paragraph leaves out."""
_ASIDES = 0.25
"""How many of the paragraphs have a sentence about nobody."""


@dataclass(frozen=True, slots=True)
class _Person:
    """A name and the whole record, stated or not."""

    first: str
    last: str
    pronoun: str
    record: dict[str, str]

    def told(self, name: str) -> str:
        """What the text says of one fact, in the reason's words, after the name."""
        return _FACTS[name].claims[0].format(v=self.record[name], d=self.record["deed"])

    def quote(self, name: str) -> str:
        """The same as a sentence without its full stop."""
        return f"{self.last} {self.told(name)}"


@dataclass(frozen=True, slots=True)
class _Order:
    """A hypothesis to be made.

    person:  index of the person it is about
    form:    `lookup`, `limit` (before or after a year) or `age` (older or younger than the other)
    true:    whether the claim agrees with the whole record, stated or not
    absent:  it names somebody whom the paragraph does not know (always neutral)
    swapped: a false value is taken from the other person
    value:   the true value that the person has to have, where the claim asks for one
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
    """A hypothesis with its kind of inference and the true reason of its label."""

    hypothesis: str
    kind: str
    reason: str


def generate(n: int, seed: int = 0, *, people: int = 1) -> list[Example]:
    """`n` examples of the task `nli`: the same ones for the same arguments, on any machine.

    people: persons in a paragraph, 1 or 2. With two, facts are swapped between them and their ages
            compared; paragraphs are longer and the task is harder.

    Every prefix of the list is balanced over the labels to within one row, and the list is a prefix
    of any longer one of the same seed. No premise comes again in another group of a list, and two
    lists of different seeds hardly share one (about one in 10^9 pairs: a few, where both lists have
    100,000 rows). Raises UsageError for a negative `n` or other `people`.
    """
    if n < 0 or people not in (1, 2):
        raise UsageError(f"synthetic:nli: got n={n}, people={people}; n >= 0 and people 1 or 2")
    # `random` hashes a string seed with SHA-512, whatever PYTHONHASHSEED says.
    rng = random.Random(f"tutelage/nli/{people}/{seed}")
    deck: list[str] = []
    examples: list[Example] = []
    seen: set[str] = set()
    while len(examples) < n:
        size = rng.choice((2, 3))
        while len(deck) < size:
            deck.extend(rng.sample(LABELS, 3))
        orders = _take_orders(rng, deck[:size], people)
        del deck[:size]
        premise, five, claims = _tell(rng, orders, people)
        while premise in seen:
            premise, five, claims = _tell(rng, orders, people)
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


def _take_orders(rng: random.Random, labels: Sequence[str], people: int) -> list[_Order]:
    """One order for each label, about facts of their own, so that no two can conflict."""
    orders = []
    for label, fact in zip(labels, rng.sample(list(_FACTS), len(labels)), strict=True):
        form = "lookup"
        if fact in _YEARS and rng.random() < 0.7:
            form = "age" if people == 2 and fact == "birth_year" else "limit"
        # A deed is always told, so that about it only an unknown person's can be open.
        absent = label == "neutral" and form != "age" and (fact == "deed" or rng.random() < 0.1)
        true = rng.random() < 0.5 if label == "neutral" else label == "entailment"
        swapped = people == 2 and rng.random() < 0.5
        value, limit = None, 0
        if form == "limit":
            # The limit first, from those with as many years within reach on either side, then the
            # true year around it: the other way about, a limit near an end would tell.
            years = _FACTS[fact].values
            limit = int(rng.choice(years[_REACH:-_REACH]))
            value = str(limit + rng.choice((-1, 1)) * rng.randint(1, _REACH))
        person = rng.randrange(people)
        orders.append(_Order(label, fact, person, form, true, absent, swapped, value, limit))
    return orders


def _tell(
    rng: random.Random, orders: Sequence[_Order], people: int
) -> tuple[str, str, list[_Claim]]:
    """A premise, its five answers, and a claim for each order; drawn until the orders fit."""
    while True:
        persons = _invent(rng, people)
        for order in orders:
            if order.value is not None:
                persons[order.person].record[order.fact] = order.value
        stated = _choose_stated(rng, orders, people)
        claims = [_claim(rng, order, persons, stated) for order in orders]
        fitting = [claim for claim in claims if claim is not None]
        if len(fitting) == len(orders):
            premise = _premise(rng, persons, stated)
            return premise, _five_w(persons[0], stated[0]), fitting


def _invent(rng: random.Random, people: int) -> list[_Person]:
    """New persons. Two first names each: they cost a student nothing, and keep premises apart."""
    persons = []
    for last in rng.sample(_SURNAMES, people):
        pronoun, names = rng.choice((("she", _SHE), ("he", _HE)))
        record = {name: rng.choice(fact.values) for name, fact in _FACTS.items()}
        persons.append(_Person(" ".join(rng.sample(names, 2)), last, pronoun, record))
    return persons


def _choose_stated(rng: random.Random, orders: Sequence[_Order], people: int) -> list[set[str]]:
    """The facts that the paragraph tells of each person.

    The number left out is always the same: a paragraph's length says nothing of the labels.
    """
    told: list[set[str]] = [{"deed"} for _ in range(people)]
    untold: list[set[str]] = [set() for _ in range(people)]
    for order in orders:
        if not order.absent:
            (untold if order.label == "neutral" else told)[order.person].add(order.fact)
        if order.form == "age":
            told[1 - order.person].add(order.fact)
    for known, unknown in zip(told, untold, strict=True):
        free = [name for name in _FACTS if name not in known and name not in unknown]
        unknown.update(rng.sample(free, _OMITTED - len(unknown)))
    return [set(_FACTS) - unknown for unknown in untold]


def _claim(
    rng: random.Random, order: _Order, persons: Sequence[_Person], stated: Sequence[set[str]]
) -> _Claim | None:
    """The claim that an order asks for, or None where these persons do not admit it."""
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
        verdict = f". {value} is {relation} {limit}."
    elif order.true:
        text = rng.choice(fact.claims).format(v=value, d=deed)
        verdict = ". The hypothesis says the same."
    else:
        owner = other if order.swapped else None
        claimed = owner.record[order.fact] if owner else rng.choice(fact.values)
        if claimed == value:
            return None
        text = rng.choice(fact.claims).format(v=claimed, d=deed)
        verdict = f", not {claimed}."
        if owner and order.fact in stated[1 - order.person]:
            kind = "swapped_person"
            verdict += f" It is {owner.last} who {owner.told(order.fact)}."
    if order.absent:
        name = rng.choice([s for s in _SURNAMES if all(s != p.last for p in persons)])
        return _Claim(f"{name} {text}.", "swapped_person", f"The text is not about {name}.")
    reason = f"The text says that {person.quote(order.fact)}{verdict}"
    if order.label == "neutral":
        reason = f"The text does not say {fact.unknown.format(p=person.last, d=deed)}."
        kind = kind if kind == "swapped_person" else "not_stated"
    return _Claim(f"{person.last} {text}.", kind, reason)


def _age_claim(order: _Order, person: _Person, other: _Person) -> _Claim | None:
    """Who of two was older, where that is not open because they are of one year."""
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
    """The sentences about one person. The first carries the whole name; a pronoun may follow only
    where there is nobody else whom it could mean."""
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
    """A sentence about nobody, with a place and a year that a hypothesis may name as well."""
    place = rng.choice(_PLACES)
    year = rng.choice(_FACTS[rng.choice(_YEARS)].values)
    return rng.choice((f"There was a flood in {place} in {year}.", f"In {year} {place} was small."))


def _five_w(person: _Person, known: set[str]) -> str:
    """The five answers about the first person's deed, at most ten words each."""
    record = person.record
    answers = {
        "Who": f"{person.first} {person.last}" + (f", a {record['job']}" if "job" in known else ""),
        "What": record["deed"],
        "When": f"in {record['deed_year']}" if "deed_year" in known else "not stated",
        "Where": f"in {record['deed_place']}" if "deed_place" in known else "not stated",
        "Why": record["motive"] if "motive" in known else "not stated",
    }
    return "\n".join(f"{question}: {answer}" for question, answer in answers.items())
