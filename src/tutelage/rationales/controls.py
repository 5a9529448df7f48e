"""Controls: rationales that keep everything but the content, to show whether that did the work.

shuffled:   each row learns the explanation of another row
label echo: each row learns a sentence that says its label again
filler:     each row learns words that say nothing, about as many as its explanation has
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

    rationales:   one for each of `examples`, in their order
    within_label: the other row has the same gold label
    by_context:   for answers about the context alone: contexts swap their answers as a whole, so
                  no row gets the answer of its own context under another row's name. Rows of one
                  context get one answer, that of the other context's first `ok` row

    Deterministic in `seed`. The swap is one random cycle (Sattolo's algorithm), so nobody keeps
    their own. Usage and cost stay with the row that was asked for. Raises UsageError where
    somebody has nobody to swap with.
    """
    _check_alignment(rationales, examples)
    units: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (rationale, example) in enumerate(zip(rationales, examples, strict=True)):
        if rationale.status == "ok":
            unit = task.group(example.uid, example.fields) if by_context else example.uid
            units[example.label if within_label else ""][unit].append(index)
    result = list(rationales)
    # A string seeds by its digest: neighbouring seeds have nothing in common.
    generator = random.Random(f"shuffled {seed}")
    for label in sorted(units):
        members = list(units[label].values())
        if len(members) < 2:
            scope = f" of label {label!r}" if within_label else ""
            what = "context" if by_context else "row"
            raise UsageError(
                f"shuffled control: a single {what}{scope} has a rationale, and two are needed to "
                "swap: give more data, or leave the control out"
            )
        for own, other in zip(members, _cycle(len(members), generator), strict=True):
            donor = rationales[members[other][0]]
            for index in own:
                result[index] = dataclasses.replace(
                    rationales[index], text=donor.text, label=donor.label
                )
    return result


def label_echo(
    rationales: Sequence[Rationale], examples: Sequence[Example], task: Task
) -> list[Rationale]:
    """Each `ok` row's text says only its gold label again; other rows stay as they are.

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
    """Each `ok` row's text becomes as much of one fixed text, over and over; others stay.

    It controls for what a longer target does by itself: more tokens in the loss, of which a part
    goes to other things than the label (regularisation), and a decoder that has more to write. Two
    rows differ in the length of their filler only.

    It ends at the end of the word that is nearest to the length of the row's own text in
    characters, one word at least. The words are about as long as those of explanations in English,
    so that in a subword vocabulary made for English there are as many tokens, within a tenth for
    all rows together.
    """
    return [
        dataclasses.replace(rationale, text=_filler(len(rationale.text)), label=None)
        if rationale.status == "ok"
        else rationale
        for rationale in rationales
    ]


def _filler(length: int) -> str:
    """The first words of the endless text: `length` characters, to the nearest end of a word."""
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
            f"{len(rationales)} rationales and {len(examples)} examples: expected one rationale "
            "for each example, in the same order"
        )
