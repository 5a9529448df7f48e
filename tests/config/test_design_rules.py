"""Controls, baselines and seeds: which arms are added, and which departures need a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tutelage.config.design_rules import Departure
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.errors import RecipeError

Make = Callable[..., dict[str, Any]]

LABELS = {"name": "labels"}
REASONING = {"name": "reasoning", "strategy": "informed_reasoning"}
EXTRACTION = {"name": "extraction", "strategy": "information_extraction"}


@pytest.fixture
def make(searched_recipe: dict[str, Any]) -> Callable[..., Recipe]:
    """A recipe with the full protocol's defaults, apart from what is given."""

    def recipe(*arms: dict[str, Any], **changes: Any) -> Recipe:
        values = searched_recipe | {"arms": [LABELS, *arms]}
        for key in ("controls", "baselines", "departures"):
            del values[key]
        return parse_recipe(values | changes)

    return recipe


def names(recipe: Recipe) -> list[str]:
    return [arm.name for arm in recipe.arms]


def the(recipe: Recipe, name: str) -> Any:
    return next(arm for arm in recipe.arms if arm.name == name)


def test_every_control_and_baseline_is_there_by_default(make: Callable[..., Recipe]) -> None:
    recipe = make(EXTRACTION, REASONING)
    assert names(recipe) == [
        "labels",
        *("extraction", "extraction-shuffled", "extraction-scrambled", "extraction-filler"),
        *("reasoning", "reasoning-shuffled", "reasoning-scrambled", "reasoning-filler"),
        "label-echo",
        "hypothesis-only",
    ]
    assert recipe.baselines == (
        *("majority", "bag_of_words", "omitted_context", "teacher_labels", "teacher"),
    )
    for control in ("shuffled", "scrambled", "filler"):
        added = the(recipe, f"reasoning-{control}")
        assert (added.control, added.annotation_key) == (
            control,
            the(recipe, "reasoning").annotation_key,
        )
        assert recipe.treatments_of(added) == [the(recipe, "reasoning")]
    echo = the(recipe, "label-echo")
    assert echo.control == "label_echo"
    assert recipe.treatments_of(echo) == [the(recipe, "extraction"), the(recipe, "reasoning")]
    alone = the(recipe, "hypothesis-only")
    assert (alone.omits, alone.strategy, alone.effective_objective) == (("premise",), None, "label")
    assert recipe.baseline.name == "labels"
    assert len(recipe.configs(alone)) == len(recipe.configs(the(recipe, "reasoning"))) == 2
    assert recipe.departures_made() == []


def test_shuffled_is_the_primary_family_and_the_others_one_of_their_own(
    make: Callable[..., Recipe],
) -> None:
    families = make(EXTRACTION, REASONING).comparisons()
    assert families.primary == (
        ("extraction", "labels"),
        ("extraction", "extraction-shuffled"),
        ("reasoning", "labels"),
        ("reasoning", "reasoning-shuffled"),
    )
    assert set(families.secondary) == {
        ("extraction", "extraction-scrambled"),
        ("extraction", "extraction-filler"),
        ("extraction", "label-echo"),
        ("reasoning", "reasoning-scrambled"),
        ("reasoning", "reasoning-filler"),
        ("reasoning", "label-echo"),
    }
    assert len(families.secondary) == 6


def test_an_objective_has_an_echo_of_its_own(make: Callable[..., Recipe]) -> None:
    first = {**REASONING, "name": "first", "objective": "rationale_then_label"}
    recipe = make(EXTRACTION, REASONING, first)
    treated = {
        arm.name: [t.name for t in recipe.treatments_of(arm)]
        for arm in recipe.arms
        if arm.control == "label_echo"
    }
    assert treated == {
        "label-echo-label_then_rationale": ["extraction", "reasoning"],
        "label-echo-rationale_then_label": ["first"],
    }
    assert the(recipe, "label-echo-rationale_then_label").objective == "rationale_then_label"
    assert ("first", "label-echo-rationale_then_label") in recipe.comparisons().secondary


def test_arms_that_are_written_out_are_not_added_again(make: Callable[..., Recipe]) -> None:
    mine = {**REASONING, "name": "mixed-up", "control": "shuffled"}
    echo = {**REASONING, "name": "echo", "control": "label_echo"}
    reader = {"name": "blind", "omits": ["premise"]}
    recipe = make(REASONING, mine, echo, reader)
    assert names(recipe) == [
        *("labels", "reasoning", "mixed-up", "reasoning-scrambled", "reasoning-filler"),
        *("echo", "blind"),
    ]
    assert recipe.departures_made() == []


def test_an_arm_s_own_echo_is_used_before_another_arm_s(make: Callable[..., Recipe]) -> None:
    own = {**REASONING, "name": "own", "control": "label_echo"}
    other = {**EXTRACTION, "name": "other", "control": "label_echo"}
    recipe = make(EXTRACTION, REASONING, {"name": "human", "strategy": "human"}, own, other)
    # An arm without its own label echo shares the first.
    assert [arm.name for arm in recipe.treatments_of(the(recipe, "own"))] == ["reasoning", "human"]
    assert [arm.name for arm in recipe.treatments_of(the(recipe, "other"))] == ["extraction"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"controls": ["shuffled_within_label", "scrambled", "label_echo", "filler"]},
        {"controls": ["shuffled"], "departures": {"controls": "why"}},
        {"baselines": ["majority"], "seeds": [3], "departures": {"baselines": "a", "seeds": "b"}},
    ],
)
def test_a_resolved_recipe_reads_back_equal(
    make: Callable[..., Recipe], changes: dict[str, Any]
) -> None:
    first = {**REASONING, "name": "first", "objective": "multitask"}
    recipe = make(EXTRACTION, REASONING, first, **changes)
    text = recipe.to_yaml()
    again = parse_recipe(yaml.safe_load(text))
    assert again == recipe
    assert again.to_yaml() == text
    assert "omits: []" not in text


def test_shuffled_within_label_counts_as_shuffled(make: Callable[..., Recipe]) -> None:
    controls = ["shuffled_within_label", "scrambled", "label_echo", "filler"]
    recipe = make(REASONING, controls=controls)
    assert "reasoning-shuffled-within-label" in names(recipe)
    assert ("reasoning", "reasoning-shuffled-within-label") in recipe.comparisons().primary
    assert recipe.departures_made() == []
    both = make(REASONING, controls=["shuffled", *controls])
    assert len(both.comparisons().primary) == 3


def test_an_arm_that_learns_no_rationale_needs_no_control(make: Callable[..., Recipe]) -> None:
    recipe = make({**REASONING, "objective": "label"})
    assert names(recipe) == ["labels", "reasoning", "hypothesis-only"]
    assert names(make()) == ["labels", "hypothesis-only"]


def test_a_task_without_a_context_has_none_to_omit(make: Callable[..., Recipe]) -> None:
    task = {"fields": ["offer", "purse"], "labels": ["yes", "no"]}
    assert names(make(task=task)) == ["labels"]
    assert make(task=task).departures_made() == []
    # Nor is the baseline missing then.
    some = ["majority", "bag_of_words", "teacher_labels", "teacher"]
    assert make(task=task, baselines=some).departures_made() == []
    assert names(make(task={**task, "fields": ["offer"], "context": "offer"})) == ["labels"]
    recipe = make(task={**task, "context": "offer"})
    assert names(recipe) == ["labels", "without-offer"]
    assert the(recipe, "without-offer").omits == ("offer",)


def problem(make: Callable[..., Recipe], *arms: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        make(*arms, **changes)
    [line] = caught.value.problems
    assert "\n" not in line
    return line


def test_a_missing_control_needs_a_reason(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, controls=["shuffled"])
    assert line.startswith(
        "controls: no scrambled control; no label_echo control; no filler control: "
    )
    assert 'departures: {controls: "your reason"}' in line
    recipe = make(REASONING, controls=["shuffled"], departures={"controls": " too dear "})
    what = "no scrambled control; no label_echo control; no filler control"
    assert recipe.departures_made() == [Departure("controls", what, "too dear")]
    assert names(recipe) == ["labels", "reasoning", "reasoning-shuffled", "hypothesis-only"]


def test_the_arms_that_lack_a_control_are_named(make: Callable[..., Recipe]) -> None:
    mine = {**REASONING, "name": "mine", "control": "shuffled"}
    line = problem(
        make, EXTRACTION, REASONING, mine, controls=["scrambled", "label_echo", "filler"]
    )
    assert line.startswith("controls: no shuffled control for extraction: ")


def test_a_missing_baseline_needs_a_reason(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, baselines=["majority"])
    assert line.startswith(
        "baselines: no bag_of_words, no omitted_context, no teacher_labels, no teacher: "
    )
    assert 'departures: {baselines: "your reason"}' in line
    reader = {"name": "blind", "omits": ["premise"]}
    some = ["majority", "bag_of_words", "teacher", "teacher_labels"]
    assert make(REASONING, reader, baselines=some).departures_made() == []
    # Without a teacher there is none to compare with.
    human = {"name": "human", "strategy": "human"}
    some = ["majority", "bag_of_words", "omitted_context"]
    assert make(human, baselines=some).departures_made() == []


def test_one_seed_needs_a_reason(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, seeds=[4])
    assert line.startswith("seeds: 1 seed, which shows nothing of how seeds vary: name two or more")
    assert 'departures: {seeds: "your reason"}' in line
    assert (
        make(REASONING, seeds=[4], departures={"seeds": "a trial"}).departures_made()[0].rule
        == "seeds"
    )


@pytest.mark.parametrize("rule", ["controls", "baselines", "seeds"])
def test_a_reason_without_a_departure_is_refused(make: Callable[..., Recipe], rule: str) -> None:
    line = problem(make, REASONING, departures={rule: "because"})
    assert line.startswith(f"departures.{rule}: gives a reason, but the recipe follows this rule")


def test_an_empty_reason_is_none(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, seeds=[4], departures={"seeds": "  "})
    assert line.startswith("departures.seeds: ")


def test_an_unknown_rule(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, departures={"seed": "x"})
    assert line == "departures.seed: unknown key: did you mean 'seeds'?"


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (
            [REASONING, {**EXTRACTION, "name": "reasoning-filler"}],
            "the control filler of 'reasoning' would be named 'reasoning-filler', as another arm",
        ),
        (
            [REASONING, {**EXTRACTION, "name": "label-echo"}],
            "the control label_echo of 'reasoning' would be named 'label-echo', as another arm is",
        ),
        (
            [REASONING, {**EXTRACTION, "name": "hypothesis-only"}],
            "the baseline omitted_context would be named 'hypothesis-only', as another arm is",
        ),
        ([{**REASONING, "name": "r" * 75}], "which is too long: shorten the arm's"),
        ([{"name": "x", "omits": ["promise"]}], "'x' omits promise: expected some of premise, hyp"),
        ([{"name": "x", "omits": ["premise", "hypothesis"]}], "'x' omits all fields"),
        ([{**REASONING, "omits": ["premise"]}], "omits: works only for an arm without a strategy"),
        ([{"name": "x"}], "expected exactly one without a strategy, the baseline of labels alone"),
    ],
)
def test_invalid_arms(
    make: Callable[..., Recipe], arms: list[dict[str, Any]], message: str
) -> None:
    assert message in problem(make, *arms)


def test_a_control_is_listed_once(make: Callable[..., Recipe]) -> None:
    line = problem(make, controls=["filler", "filler"])
    assert line == "controls: ['filler', 'filler'] lists a value twice"
    line = problem(make, controls=["fillers"])
    assert line.startswith("controls.0: got 'fillers'")


def test_the_quickstart_is_a_preset_and_needs_no_reason() -> None:
    recipe = load_recipe("quickstart")
    assert [arm.name for arm in recipe.arms] == [
        "labels",
        "informed-reasoning",
        "informed-reasoning-shuffled",
    ]
    assert (recipe.protocol, recipe.trials) == ("quick", 0)
    assert recipe.departures_made() == []
    assert "the control filler" in recipe.left_out()


def test_the_paper_s_experiment_has_no_departure() -> None:
    recipe = load_recipe("anli-r1")
    assert recipe.departures_made() == []
    assert len(recipe.comparisons().primary) == 4
    assert len(recipe.comparisons().secondary) == 6


PRESETS = {
    # controls, baselines, trials of four configurations, what is left out
    "quick": (
        ["shuffled"],
        ("majority", "bag_of_words"),
        0,
        (
            *("the control scrambled", "the control label_echo", "the control filler"),
            *("the baseline omitted_context", "the baseline teacher_labels"),
            *("the baseline teacher", "the search on dev"),
        ),
    ),
    "standard": (
        ["shuffled", "scrambled", "filler"],
        ("majority", "bag_of_words"),
        3,
        (
            *("the control label_echo", "the baseline omitted_context"),
            *("the baseline teacher_labels", "the baseline teacher"),
        ),
    ),
    "full": (
        ["shuffled", "scrambled", "filler", "label_echo"],
        ("majority", "bag_of_words", "omitted_context", "teacher_labels", "teacher"),
        3,
        (),
    ),
}


@pytest.mark.parametrize("protocol", PRESETS)
def test_a_preset_is_its_own_reason(make: Callable[..., Recipe], protocol: str) -> None:
    controls, baselines, trials, left_out = PRESETS[protocol]
    search = {"learning_rate": [1e-3, 2e-3], "label_weight": [0.3, 0.5]}
    recipe = make(REASONING, protocol=protocol, search=search)
    assert [arm.control for arm in recipe.arms if arm.control] == controls
    assert recipe.baselines == baselines
    assert recipe.trials == trials
    assert recipe.departures_made() == []
    assert recipe.left_out() == left_out
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_standard_is_the_default(
    make: Callable[..., Recipe], searched_recipe: dict[str, Any]
) -> None:
    values = searched_recipe | {"arms": [LABELS, REASONING]}
    for key in ("protocol", "controls", "baselines", "departures"):
        del values[key]
    assert parse_recipe(values) == make(REASONING, protocol="standard")


def test_what_is_written_overrides_the_preset(make: Callable[..., Recipe]) -> None:
    search = {"learning_rate": [1e-3, 2e-3], "trials": 2}
    more = make(
        REASONING,
        protocol="quick",
        controls=["shuffled", "filler"],
        baselines=["majority", "bag_of_words", "teacher"],
        search=search,
    )
    assert [arm.control for arm in more.arms if arm.control] == ["shuffled", "filler"]
    assert more.trials == 2
    assert more.left_out() == (
        *("the control scrambled", "the control label_echo"),
        *("the baseline omitted_context", "the baseline teacher_labels"),
    )
    # An arm that is written out counts as well.
    own = {**REASONING, "name": "mine", "control": "label_echo"}
    assert "the control label_echo" not in make(REASONING, own, protocol="quick").left_out()


def test_taking_more_away_than_the_preset_needs_a_reason(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, protocol="standard", controls=["shuffled", "filler"])
    assert line.startswith("controls: no scrambled control: protocol standard has them")
    line = problem(make, REASONING, protocol="quick", controls=[])
    assert line.startswith("controls: no shuffled control: protocol quick has them")
    line = problem(make, REASONING, protocol="quick", baselines=["majority"])
    assert line.startswith("baselines: no bag_of_words: protocol quick has them")
    fewer = make(
        REASONING, protocol="quick", controls=[], departures={"controls": "rows without reasons"}
    )
    (departure,) = fewer.departures_made()
    assert departure == Departure("controls", "no shuffled control", "rows without reasons")
    assert "the control shuffled" not in fewer.left_out()  # it is said once
    line = problem(make, REASONING, protocol="quick", departures={"controls": "why"})
    assert line.startswith("departures.controls: gives a reason, but the recipe follows this rule")


def test_an_unknown_preset_is_one_line(make: Callable[..., Recipe]) -> None:
    line = problem(make, REASONING, protocol="thorough", controls=[], baselines=[])
    assert line.startswith("protocol: got 'thorough'")
