"""Progress of trainings and evaluations, by a clock that the tests set."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tutelage.cli.jobs_progress import JobsProgress
from tutelage.cli.terminal import Bars
from tutelage.core.progress import JobProgress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bars_of(clock: Clock, *, terminal: bool) -> tuple[Bars, io.StringIO]:
    out = io.StringIO()
    # A dumb terminal would get no bars.
    environment = {"TERM": "xterm", "COLUMNS": "100"}
    console = Console(file=out, force_terminal=terminal, width=100, _environ=environment)
    return Bars(console, clock), out


def test_steps_of_running_trainings_count() -> None:
    clock = Clock()
    progress = JobsProgress(total=4, done=0, clock=clock)
    progress.update(JobProgress("a", 0, 100))
    progress.update(JobProgress("b", 0, 100))
    assert progress.completed == 0 and progress.seconds_left is None
    clock.now += 60
    progress.update(JobProgress("a", 50, 100))
    progress.update(JobProgress("b", 25, 100))
    assert progress.completed == 0.75
    assert progress.seconds_left == pytest.approx(60 * 3.25 / 0.75)


def test_no_time_is_left_and_none_is_known() -> None:
    clock = Clock()
    progress = JobsProgress(total=1, done=0, clock=clock)
    assert progress.seconds_left is None
    clock.now += 1
    progress.update(JobProgress("a", 0, 10))
    progress.update(JobProgress("a", 5, 10))
    assert progress.seconds_left is None, "one second says nothing about the rate"
    clock.now += 100
    progress.update(JobProgress("a", 10, 10))
    assert progress.seconds_left == 0


def test_work_of_earlier_calls_says_nothing_about_the_rate() -> None:
    clock = Clock()
    progress = JobsProgress(total=4, done=2, clock=clock)
    progress.update(JobProgress("resumed", 90, 100))
    clock.now += 10
    assert progress.completed == pytest.approx(2.9) and progress.seconds_left is None
    progress.update(JobProgress("resumed", 100, 100))
    assert progress.seconds_left == pytest.approx(100), "a tenth of a training took 10 s"


def test_an_evaluation_that_only_reports_its_end_counts() -> None:
    clock = Clock()
    progress = JobsProgress(total=3, done=0, clock=clock)
    clock.now += 20
    progress.update(JobProgress("a", 1, 1))
    assert progress.seconds_left == pytest.approx(40)


def test_without_a_terminal_a_stage_has_a_line_every_15_seconds_and_a_last_one(
    clock: Clock,
) -> None:
    bars, out = bars_of(clock, terminal=False)
    with bars:
        bars.stage("Training: the search on dev")
        bars.jobs(0, 8, "trained")
        for job in range(8):
            for step in range(1, 101):
                clock.now += 0.5
                bars.job(JobProgress(f"labels/lr-{job}/seed-0", step, 100))
            bars.jobs(job + 1, 8, "trained")
        clock.now += 60
        bars.stage("Opening the test set")
        bars.jobs(0, 8, "evaluated")
    title, *lines, last, after = out.getvalue().splitlines()
    assert title == "[   0.0 s] Training: the search on dev"
    assert len(lines) == pytest.approx(400 / 15, abs=1)
    assert all(re.fullmatch(r" {11}students: \d of 8 trained, about .* left", s) for s in lines)
    assert lines[0] == "           students: 0 of 8 trained, about 7 min left"
    assert lines[len(lines) // 2] == "           students: 4 of 8 trained, about 3 min left"
    assert last == "           students: 8 of 8 trained"
    assert after == "[ 460.0 s] Opening the test set"


def test_students_of_an_earlier_call_are_one_line(clock: Clock) -> None:
    bars, out = bars_of(clock, terminal=False)
    with bars:
        bars.stage("Opening the test set")
        bars.jobs(8, 8, "evaluated")
        bars.stage("Generating the students' own rationales")
        bars.jobs(0, 0, "evaluated")
    assert out.getvalue().splitlines()[1:] == [
        "           students: 8 of 8 evaluated",
        "[   0.0 s] Generating the students' own rationales",
    ]


def test_in_a_terminal_a_stage_is_one_bar_with_the_time_left(clock: Clock) -> None:
    bars, _ = bars_of(clock, terminal=True)
    with bars:
        bars.stage("Training: the search on dev")
        bars.jobs(0, 4, "trained")
        (bar,) = bars.bars.tasks
        assert bar.fields["details"] == "", "nothing is known yet"
        for name in ("a", "b"):
            bars.job(JobProgress(name, 0, 100))
        clock.now += 300
        for name in ("a", "b"):
            bars.job(JobProgress(name, 50, 100))
        (bar,) = bars.bars.tasks
        assert (bar.description, bar.completed, bar.total) == ("students", 1.0, 4)
        assert bar.fields["details"] == "about 15 min left"
        bars.stage("Opening the test set")
        assert not bars.bars.tasks


def test_a_single_training_says_its_time_left(clock: Clock) -> None:
    bars, out = bars_of(clock, terminal=False)
    with bars:
        for step in range(1, 101):
            bars.job(JobProgress("student", step, 100))
            clock.now += 1
    assert out.getvalue().splitlines()[0] == ("           student: 16 of 100, about 84 s left")
    assert out.getvalue().splitlines()[-1] == "           student: 100 of 100"
    assert len(out.getvalue().splitlines()) == 7
