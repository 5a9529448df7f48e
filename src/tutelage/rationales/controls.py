"""Builds control rationales, which keep some of a rationale and take the rest away.

shuffled:   each row learns the rationale of another row: neither the words nor the reasoning fit
scrambled:  each row learns the words of its own rationale in random order: the words fit, without
            the reasoning that their order expresses
label echo: each row learns a sentence that repeats its label
filler:     each row learns meaningless text, about as long as its rationale
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Sequence

from tutelage.core.errors import UsageError
from tutelage.core.task import Task
from tutelage.core.types import Example, Rationale


def shuffled(
    rationales: Sequence[Rationale],
    examples: Sequence[Example],
    task: Task,
    seed: int,
    within_label: bool = False,
    by_context: bool = False,
) -> list[Rationale]:
    """Each `ok` row gets another `ok` row's text; rows of any other status stay as they are.

    rationales:   one for each of `examples`, in the same order
    within_label: take the text of a row with the same gold label
    by_context:   for rationales about the context alone: contexts swap them as a whole, so that no
                  row gets that of its own context from another row. All rows of a context get the
                  same text, that of the other context's first `ok` row

    Deterministic in `seed`. The swap is one random cycle (Sattolo's algorithm), so that no row
    keeps its own. Usage and cost stay with the row of the request. Raises UsageError where there is
    no other row to swap with.
    """
    _check_alignment(rationales, examples)
    units: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (rationale, example) in enumerate(zip(rationales, examples, strict=True)):
        if rationale.status == "ok":
            unit = task.group(example.uid, example.fields) if by_context else example.uid
            units[example.label if within_label else ""][unit].append(index)
    result = list(rationales)
    # A string seeds by its digest, so that neighbouring seeds have nothing in common.
    generator = random.Random(f"shuffled {seed}")
    for label in sorted(units):
        members = list(units[label].values())
        if len(members) < 2:
            scope = f" of label {label!r}" if within_label else ""
            what = "context" if by_context else "row"
            raise UsageError(
                f"shuffled control: got a rationale for a single {what}{scope}, expected at least "
                "two to swap: use more data, or leave the control out"
            )
        for own, other in zip(members, _cycle(len(members), generator), strict=True):
            donor = rationales[members[other][0]]
            for index in own:
                result[index] = dataclasses.replace(
                    rationales[index], text=donor.text, label=donor.label
                )
    return result


def scrambled(rationales: Sequence[Rationale]) -> list[Rationale]:
    """Each `ok` row's text becomes its own words in random order; other rows stay.

    Words are what white space divides, with their punctuation, joined by single spaces. The order
    is decided by a digest of the row's uid, so that every seed and every run learn the same text.
    It differs from the order as written wherever two words differ.
    """
    return [
        dataclasses.replace(rationale, text=_scrambled(rationale), label=None)
        if rationale.status == "ok"
        else rationale
        for rationale in rationales
    ]


def _scrambled(rationale: Rationale) -> str:
    words = rationale.text.split()
    order = list(words)
    # A string seeds by its digest, whatever PYTHONHASHSEED says.
    generator = random.Random(f"scrambled {rationale.uid}")
    while order == words and len(set(words)) > 1:
        generator.shuffle(order)
    return " ".join(order)


def label_echo(
    rationales: Sequence[Rationale], examples: Sequence[Example], task: Task
) -> list[Rationale]:
    """Each `ok` row's text only repeats its gold label; other rows stay as they are.

    label entailment  ->  "The answer is entailment."
    """
    _check_alignment(rationales, examples)
    return [
        dataclasses.replace(
            rationale, text=f"The answer is {task.verbalize(example.label)}.", label=None
        )
        if rationale.status == "ok"
        else rationale
        for rationale, example in zip(rationales, examples, strict=True)
    ]


_FILLER = (
    "These words stand here to take up space, and say nothing about the matter at hand. They "
    "continue for as long as they are asked to, one after another, and then they stop. Nobody "
    "learns from them what to answer, since they are the same words for every row, and only their "
    "number differs. "
)


def filler(rationales: Sequence[Rationale]) -> list[Rationale]:
    """Each `ok` row's text becomes a fixed text, repeated to the same length; other rows stay.

    It controls for the effect of a longer target by itself: more tokens in the loss, part of which
    goes to other things than the label (regularisation), and more for the decoder to write. Two
    rows differ only in the length of their filler.

    It ends at the word boundary nearest to the length of the row's own text in characters, with at
    least one word. The words are about as long as those of English explanations, so that a subword
    vocabulary for English gives the same number of tokens, within a tenth over all rows.
    """
    return [
        dataclasses.replace(rationale, text=_filler(len(rationale.text)), label=None)
        if rationale.status == "ok"
        else rationale
        for rationale in rationales
    ]


def _filler(length: int) -> str:
    """The first words of the repeated text: `length` characters, to the nearest word boundary."""
    text = _FILLER * (length // len(_FILLER) + 2)
    before, after = text.rfind(" ", 0, length + 1), text.find(" ", length)
    return text[: before if before > 0 and length - before <= after - length else after]


def _cycle(size: int, generator: random.Random) -> list[int]:
    """A permutation of range(size) that is one cycle, each of the (size - 1)! equally likely."""
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        other = generator.randrange(last)
        order[last], order[other] = order[other], order[last]
    return order


def _check_alignment(rationales: Sequence[Rationale], examples: Sequence[Example]) -> None:
    if [r.uid for r in rationales] != [e.uid for e in examples]:
        raise UsageError(
            f"got {len(rationales)} rationales and {len(examples)} examples, expected one "
            "rationale for each example, in the same order"
        )
