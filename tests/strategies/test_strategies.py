import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import UsageError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Completion, Example, Usage
from tutelage.strategies.information_extraction import (
    FIVE_W,
    SCHEMA,
    parse_answer,
    parse_structured,
    render_answer,
    render_structured,
)
from tutelage.strategies.lookup import BUILT_IN, get_strategy, is_refusal, status_of

EXAMPLE = Example(
    "e1",
    {"premise": "Ada Lom opened a mill in Tarn.", "hypothesis": "Zed closed it."},
    "contradiction",
    reason="She opened one.",
)
REVIEWS = Task("reviews", ("text", "title"), ("good", "bad"), verbalizers={"good": "splendid"})
REVIEW = Example("v1", {"text": "Warm soup.", "title": "Lunch"}, "good")


def words(strategy, example, task):
    return "\n".join(message.content for message in get_strategy(strategy).render(example, task))


# --- statuses


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        (Completion("Because.", "stop"), "ok"),
        (Completion("Because.", None), "ok"),
        (Completion("Because the", "length"), "truncated"),
        (Completion("", "length"), "truncated"),
        (Completion(" \n", "stop"), "empty"),
        (Completion("half an ans", "content_filter"), "refused"),
        (Completion("I'm sorry, but I can't help with that.", "stop"), "refused"),
    ],
)
def test_the_status_follows_from_text_and_finish_reason(completion, status):
    assert status_of(completion)[0] == status
    assert (status_of(completion)[1] == "") == (status == "ok")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with that request.",
        "Sorry, I am unable to answer this.",
        "I cannot assist with this request",
        "I'm not able to provide an explanation.",
        "As an AI language model, I cannot judge this.",
        "I must respectfully decline.",
        '"I won\'t comply."',
    ],
)
def test_refusals(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I cannot conclude that the man is old, so it is neutral.",
        "I cannot help but notice that the premise says so.",
        "The man is sorry, but I cannot help him, said the doctor.",
        "Sorry people cannot help: the premise says that they apologised.",
        "The speaker declines to answer.",
        "I'm sorry, but I can't help with that. " + "The premise says that it rained. " * 10,
    ],
)
def test_explanations_are_not_refusals(text):
    assert not is_refusal(text)


# --- information extraction


def test_extraction_shows_the_context_alone():
    prompt = words("information_extraction", EXAMPLE, NLI)
    assert EXAMPLE.fields["premise"] in prompt
    assert EXAMPLE.fields["hypothesis"] not in prompt and "hypothesis" not in prompt.lower()
    for label in NLI.labels:
        assert label not in prompt.lower()
        assert NLI.relations[label] not in prompt
    assert all(word in prompt.lower() for word in FIVE_W)
    assert "10 words" in prompt


@given(hypothesis=st.text(), label=st.sampled_from(NLI.labels), reason=st.text())
def test_extraction_prompt_depends_on_nothing_but_the_context(hypothesis, label, reason):
    other = Example("x", {**EXAMPLE.fields, "hypothesis": hypothesis}, label, reason)
    strategy = get_strategy("information_extraction")
    assert strategy.render(other, NLI) == strategy.render(EXAMPLE, NLI)


def test_extraction_without_context_shows_every_field_but_no_label():
    prompt = words("information_extraction", REVIEW, REVIEWS)
    assert "Text: Warm soup." in prompt and "Title: Lunch" in prompt
    assert "good" not in prompt and "splendid" not in prompt


CANONICAL = "Who: Ada Lom What: opened a mill When: in 1871 Where: Tarn Why: not stated"


@pytest.mark.parametrize(
    "text",
    [
        CANONICAL,
        "Who: Ada Lom\nWhat: opened a mill\nWhen: in 1871\nWhere: Tarn\nWhy: not stated",
        "1. **Who:** Ada Lom\n2. **What**: opened a mill\n3. When - in 1871\n4) Where? Tarn\n"
        "5. WHY: not stated",
        "Here you are:\n- who: Ada Lom\n* what: opened a mill\n• When: in 1871\n"
        "- *Where*: Tarn\n\n### Why\nnot stated",
        "1. Who: Ada Lom 2. What: opened a mill 3. When: in 1871 4. Where: Tarn 5. Why: not stated",
        "Where: Tarn\nWho: Ada Lom\nWhat: opened\n  a mill\nWhy: not stated\nWhen: in 1871",
        "who: Ada Lom; what: opened a mill; when: in 1871; where: Tarn; why: not stated",
        CANONICAL + "\n\nWho: Ada Lom again\nWhat: she shut it",
    ],
)
def test_extraction_brings_any_layout_into_canonical_form(text):
    rationale = get_strategy("information_extraction").parse(Completion(text), EXAMPLE, NLI)
    assert (rationale.status, rationale.text) == ("ok", CANONICAL)


def test_extraction_keeps_dates_and_clauses_of_an_answer():
    answers = parse_answer("When: on May 4. Where: Tarn, at 5.\nWhy: the reason why: it rained")
    assert answers == {
        "when": "on May 4.",
        "where": "Tarn, at 5.",
        "why": "the reason why: it rained",
    }


def test_extraction_keeps_the_answers_there_are_and_fails_without_any():
    strategy = get_strategy("information_extraction")
    some = strategy.parse(Completion("Where: Tarn\nWhen:\nWho: Ada"), EXAMPLE, NLI)
    assert (some.status, some.text) == ("ok", "Who: Ada Where: Tarn")
    none = strategy.parse(Completion("Ada Lom opened a mill."), EXAMPLE, NLI)
    assert (none.status, none.text) == ("failed", "") and "five questions" in none.detail
    cut = strategy.parse(Completion("Who: Ada\nWhat: ope", "length"), EXAMPLE, NLI)
    assert (cut.status, cut.text) == ("truncated", "Who: Ada What: ope")


ANSWERS = st.dictionaries(
    st.sampled_from(FIVE_W),
    st.lists(
        st.text("abyzAW019'.-()", min_size=1, max_size=8)
        .filter(lambda word: any(c.isalnum() for c in word))
        .filter(lambda word: not word.endswith("-")),
        min_size=1,
        max_size=6,
    ).map(" ".join),
    min_size=1,
)


@given(ANSWERS)
def test_render_and_parse_are_inverses(answers):
    assert parse_answer(render_answer(answers)) == answers


PIECES = [
    "Who", "what", "WHEN:", "where?", "Why:", "who:", " ", "\n", "**", "- ", "1. ", "2.", "(3)",
    "a b", ", ", "; ", ". ", "*", "_", "|", "—", "x", "#", "5. ", "\t", ">",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join) | st.text())
def test_what_was_parsed_renders_and_parses_again(text):
    answers = parse_answer(text)
    assert parse_answer(render_answer(answers)) == answers
    assert list(answers) == [q for q in FIVE_W if q in answers]


@pytest.mark.parametrize("answers", [{"who": ""}, {"who": "Ada What: mill"}, {"how": "so"}])
def test_render_refuses_what_could_not_be_parsed_again(answers):
    with pytest.raises(ValueError):
        render_answer(answers)


# --- informed reasoning


@pytest.mark.parametrize("label", NLI.labels)
def test_reasoning_gets_the_gold_label_as_a_relation(label):
    prompt = words("informed_reasoning", Example("e", EXAMPLE.fields, label), NLI)
    assert f"the premise {NLI.relations[label]}" in prompt
    assert all(text in prompt for text in EXAMPLE.fields.values())
    assert "100 words" in prompt
    assert [other for other in NLI.labels if NLI.relations[other] in prompt] == [label]


def test_reasoning_without_relations_names_the_verbalized_label():
    assert 'why the answer is "splendid"' in words("informed_reasoning", REVIEW, REVIEWS)


def test_reasoning_keeps_the_answer_unchanged():
    text = "  It was Ada.\n\nSo the answer is contradiction. \n"
    usage = Usage(12, 9)
    rationale = get_strategy("informed_reasoning").parse(
        Completion(text, "stop", usage), EXAMPLE, NLI
    )
    assert rationale.text == text.strip()
    assert (rationale.uid, rationale.strategy) == ("e1", "informed_reasoning")
    assert (rationale.status, rationale.usage) == ("ok", usage)


def test_refused_and_empty_answers_leave_no_text():
    strategy = get_strategy("informed_reasoning")
    for completion in (Completion("I cannot assist with that."), Completion("  ")):
        rationale = strategy.parse(completion, EXAMPLE, NLI)
        assert rationale.text == "" and rationale.detail and rationale.status != "ok"


# --- human, recorded


def test_human_is_the_reason_of_the_data():
    strategy = get_strategy("human")
    assert not strategy.asks_teacher and strategy.render(EXAMPLE, NLI) == ()
    assert strategy.parse(Completion(""), EXAMPLE, NLI).text == "She opened one."
    without = strategy.parse(Completion(""), REVIEW, REVIEWS)
    assert (without.status, without.text) == ("empty", "") and without.detail


def test_recorded_is_the_unchanged_text():
    strategy = get_strategy("recorded")
    assert strategy.asks_teacher and strategy.render(EXAMPLE, NLI) == ()
    assert strategy.parse(Completion(" a\nb. "), EXAMPLE, NLI).text == "a\nb."


# --- template


def test_template_has_the_fields_label_labels_and_reason():
    template = "{{ premise }}|{{ label }}|{{ labels | join(',') }}|{{ reason }}"
    strategy = get_strategy("template", template=template, task=NLI)
    (message,) = strategy.render(EXAMPLE, NLI)
    assert message.content == (
        "Ada Lom opened a mill in Tarn.|contradiction|entailment,neutral,contradiction|"
        "She opened one."
    )
    assert strategy.name == "template"


def test_template_does_not_escape_and_has_no_word_none():
    strategy = get_strategy("template", template="{{ text }}{{ reason }}", task=REVIEWS)
    odd = Example("o", {"text": "a < b & 'c'", "title": ""}, "bad")
    assert strategy.render(odd, REVIEWS)[0].content == "a < b & 'c'"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ premis }}", "premis"),
        ("{% if x %}", "line 1"),
        ("{{ premise", "line 1"),
        ("  ", "empty text"),
        ("{{ premise.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{% for i in range(999999999) %}x{% endfor %}", "Range"),
        ("{{ 1 / 0 }}", "zero"),
        ("{% if label == 'neutral' %}{{ oops }}{% else %}fine{% endif %}", "oops"),
    ],
)
def test_template_mistakes_are_reported_in_one_line_at_construction(template, said):
    with pytest.raises(UsageError) as caught:
        get_strategy("template", template=template, task=NLI)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_template_refuses_a_task_whose_field_is_called_label():
    with pytest.raises(UsageError, match="columns"):
        get_strategy("template", template="x", task=Task("t", ("label",), ("a", "b")))


# --- the table


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_name_is_that_of_its_strategy(name):
    template = "Why?" if name == "template" else None
    assert get_strategy(name, template=template, task=NLI).name == name


def test_a_misspelt_name_gets_the_nearest_and_the_list():
    with pytest.raises(UsageError) as caught:
        get_strategy("informed-reasonin")
    assert "'informed_reasoning'" in str(caught.value)
    assert all(name in str(caught.value) for name in BUILT_IN)


def test_a_template_goes_with_its_strategy_only():
    with pytest.raises(UsageError, match="template"):
        get_strategy("template")
    with pytest.raises(UsageError, match="takes no template"):
        get_strategy("human", template="x")


# --- structured answers


@given(st.text())
def test_the_answers_in_any_text_survive_their_structured_form(text):
    answers = parse_answer(text)
    assert parse_structured(render_structured(answers)) == answers


@given(st.fixed_dictionaries({name: st.text() for name in FIVE_W}))
def test_any_structured_answer_can_be_written_in_plain_text(values):
    answers = parse_structured(json.dumps(values))
    assert parse_answer(render_answer(answers)) == answers if answers else True


def test_a_structured_answer_is_parsed_like_a_plain_one():
    strategy = get_strategy("information_extraction")
    plain = Completion("Who: Ada Lom\nWhat: opened a mill\nWhen: 1871")
    values = {"who": "Ada Lom", "what": "opened a mill", "when": "1871", "where": "", "why": " "}
    for text in (json.dumps(values), f"```json\n{json.dumps(values)}\n```"):
        read = strategy.parse(Completion(text), EXAMPLE, NLI)
        assert read == strategy.parse(plain, EXAMPLE, NLI) and read.status == "ok"
    half = strategy.parse(Completion(r'{"who": "Ada \ud800 Lom"}'), EXAMPLE, NLI)
    assert half.text == "Who: Ada ? Lom"  # half a surrogate pair could not be written down
    for junk in ("{", "[1]", '{"who": 3}', "{}", "null"):
        assert strategy.parse(Completion(junk), EXAMPLE, NLI).status == "failed"


def test_the_schema_admits_what_is_rendered_and_is_strict():
    value = json.loads(render_structured({"who": "Ada"}))
    assert list(value) == SCHEMA["required"] == list(FIVE_W)
    assert SCHEMA["additionalProperties"] is False
