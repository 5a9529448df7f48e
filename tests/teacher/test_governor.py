import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import ServerUnreachableError, TeacherError
from tutelage.teacher.base import QuestionFailedError
from tutelage.teacher.governor import Health, RetryPolicy, Verdict, judge, parse_retry_after


@pytest.mark.parametrize(
    ("status", "code", "message", "verdict"),
    [
        (429, "", "slow down", Verdict.RETRY),
        (429, "insufficient_quota", "", Verdict.ACCOUNT),
        (503, "", "", Verdict.RETRY),
        (599, "", "", Verdict.RETRY),
        (400, "", "bad", Verdict.ROW),
        (400, "context_length_exceeded", "the model's limit", Verdict.ROW),
        (400, "", "Unknown field. The model is fine", Verdict.ROW),
        (413, "", "", Verdict.ROW),
        (401, "", "", Verdict.KEY),
        (403, "model_not_found", "", Verdict.MODEL),
        (402, "", "", Verdict.ACCOUNT),
        (404, "", "", Verdict.MODEL),
        (400, "MODEL_DEPRECATED", "", Verdict.MODEL),
        (400, "", "The model gpt-1 is no longer supported", Verdict.MODEL),
        (500, "", "model not found in cache", Verdict.RETRY),
    ],
)
def test_the_decision_table(status, code, message, verdict):
    assert judge(status, code, message) is verdict


@given(st.integers(1, 60), st.none() | st.floats(0, 1e6))
def test_delays_are_bounded_and_never_below_what_was_asked(attempt, retry_after):
    policy = RetryPolicy()
    delay = policy.delay(attempt, retry_after)
    assert 0 < delay <= max(policy.cap_s, policy.max_retry_after_s)
    assert delay >= min(retry_after or 0.0, policy.max_retry_after_s)


def test_delays_grow_and_differ():
    policy = RetryPolicy()
    assert len({policy.delay(1) for _ in range(20)}) > 10
    assert max(policy.delay(1) for _ in range(50)) < min(policy.delay(4) for _ in range(50))


def test_retry_after_may_be_a_date():
    later = email.utils.formatdate(time.time() + 20, usegmt=True)
    seconds = parse_retry_after({"Retry-After": later})
    assert seconds is not None and 18 < seconds <= 20
    assert parse_retry_after({}) is None


def transient():
    return QuestionFailedError("oops", transient=True)


def permanent():
    return QuestionFailedError("too long", transient=False)


def failures(health, error, most=1000):
    """How many failures in a row it takes to stop."""
    for count in range(1, most):
        try:
            health.question_failed(error, 1)
        except TeacherError as stop:
            return count, stop
    return None, None


def test_a_teacher_that_never_answered_is_given_up_soon():
    count, stop = failures(Health(proven=False, max_failed=None), permanent())
    assert count == Health.FIRST and "too long" in str(stop)


def test_a_teacher_that_has_answered_may_refuse_any_number_of_rows():
    assert failures(Health(proven=True, max_failed=None), permanent()) == (None, None)


def test_faults_in_a_row_stop_and_a_success_between_does_not():
    health = Health(proven=True, max_failed=None)
    for _ in range(3 * Health.LATER):
        health.question_failed(transient(), 1)
        health.succeeded()
    count, stop = failures(health, transient())
    assert count == Health.LATER and isinstance(stop, ServerUnreachableError)


def test_max_failed_counts_rows():
    health = Health(proven=True, max_failed=3)
    health.question_failed(permanent(), 3)
    with pytest.raises(TeacherError, match="max_failed: 3"):
        health.question_failed(permanent(), 1)
