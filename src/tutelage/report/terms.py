"""The terms that the report uses, each defined in a sentence."""

from __future__ import annotations

from tutelage.core.results import Results
from tutelage.core.wording import margin_in_points


def terms(results: Results) -> list[tuple[str, str]]:
    """(term, definition), in the order in which a reader needs them.

    The margin is that of this run, where anything is compared.
    """
    bought = _of_worth(results.metric_name) if results.worth is not None else []
    margin = ""
    if results.comparisons:
        margin = f" (here {margin_in_points(results.comparisons[0].equivalence_margin)})"
    return [
        (
            "Explanation, rationale",
            "The teacher's text about a training row, which the student learns to write along with "
            "the label.",
        ),
        (
            "Arm",
            "One way of training the student. All arms get the same rows and the same number of "
            "trials, steps and seeds.",
        ),
        ("Labels alone", "The arm that learns no explanations. The others are compared with it."),
        ("Treatment arm", "An arm that learns the teacher's explanations."),
        (
            "Control arm",
            "An arm that learns other text in the place of explanations: shuffled (the explanation "
            "of another row), filler (fixed text of about the same length) or label echo (a "
            "sentence that repeats the label). Only a treatment arm that beats these shows that "
            "the content of the explanations matters. Scrambled (the row's own explanation, its "
            "words in random order) is not to be beaten: it shows how much of a gain the words "
            "bring without the reasoning.",
        ),
        (
            "Baseline",
            f"What an arm's {results.metric_name} is compared with: another arm, the most frequent "
            "label, a bag of words (logistic regression on the words of the input), a student that "
            "does not see part of the input, or the teacher itself.",
        ),
        (
            "Seed",
            "The number that decides the randomness of one repetition of the experiment: which "
            "configurations are tried, and the training. Several seeds show how much the result "
            "depends on it.",
        ),
        (
            "Trial",
            "A training with one configuration, such as a learning rate, to see how good it is on "
            "dev. For each seed the best trial's configuration is trained afresh, and that student "
            "is tested.",
        ),
        *([_BALANCED] if results.metric == "balanced_accuracy" else []),
        ("Points", f"Percentage points of {results.metric_name}: from 42% to 45% is 3 points."),
        (
            "Significant",
            "The p-value is below 0.05 after Holm's correction. Otherwise no difference is "
            "detected, which does not mean that there is none.",
        ),
        (
            "Holm's correction",
            "Raises the p-values of comparisons made together, so that the chance of even one "
            "false alarm among them stays below 5%.",
        ),
        (
            "Margin",
            f"Differences smaller than this are taken not to matter{margin}. Whether a difference "
            "lies within it is tested as well.",
        ),
        *bought,
    ]


_BALANCED = (
    "Balanced accuracy",
    "The mean of the labels' recalls: each label counts as much as any other, however few rows it "
    "has. Always giving the same label reaches one divided by the number of labels.",
)


def _of_worth(metric: str) -> list[tuple[str, str]]:
    """The terms of arms that buy; metric: in words."""
    return [
        (
            "Gold row",
            "A training row with a label by a person. Pool rows have none of these: their labels "
            "are the teacher's, or the student's own.",
        ),
        (
            "Cost of use",
            "What an arm pays when it pays alone, for one draw of rows. The experiment itself "
            "draws several times and asks for each answer once, so that its cost is another.",
        ),
        (
            "Worth in gold rows",
            f"How many more gold rows would do as well: the arm's {metric}, found on the curve of "
            "arms that learn gold rows alone. Where one end of the interval is open, it is said as "
            "“at least” or “at most”.",
        ),
        (
            "May be best",
            "No other candidate is significantly better, corrected for their number. The best one "
            "is among these with a probability of 95%.",
        ),
    ]
