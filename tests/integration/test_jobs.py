"""Jobs from submission to removal, on virtual time (DESIGN 2, 3, 6; RELIABILITY R8, R16-R21, R62, R65)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from blaze import BlazeError, BlazeSequence, JobStatus, NotFound, RunStatus, SeqBlockData, ValidationError
from blaze import SubmitSequenceData as Submission
from tests.integration.timed import UTC, Timed, at, history, job, sql
from tests.integration.workbench import PATIENCE, keep

ACTIVE, PAUSED, ENDED, BROKEN = JobStatus.ACTIVE, JobStatus.PAUSED, JobStatus.ENDED, JobStatus.BROKEN


@pytest.fixture
def timed(tmp_path):
    timed = Timed(tmp_path)
    yield timed
    timed.close()


def faults_of(scheduler, given):
    """(where, what) of everything that is wrong with a submission; nothing of it is stored."""
    before = [job.to_dict() for job in scheduler.jobs]
    with pytest.raises(ValidationError) as refused:
        scheduler.submit(given)
    assert [job.to_dict() for job in scheduler.jobs] == before
    return [tuple(fault) for fault in refused.value.errors]


# ---------------------------------------------------------------------- submitting


def test_what_was_submitted_is_told_as_it_was_meant(timed):
    """R16: the zone is stored by its name, naive dates are in it, every instant is told with its offset."""
    scheduler = timed.start()
    found = scheduler.submit(
        Submission(
            "tick", seq_run_interval="30 9 * * MON-FRI", start_date=datetime(2026, 1, 5), job_id="week.days-1",
            end_date=datetime(2026, 2, 1, tzinfo=UTC), timezone="America/New_York", catchup="all", overlap="queue",
            priority=-7,
        )
    )  # fmt: skip
    assert found == scheduler.state.job("week.days-1") == scheduler.jobs[0]
    assert found.to_dict() == {
        "job_id": "week.days-1",
        "seq_id": "tick",
        "status": "ACTIVE",
        "interval": "30 9 * * MON-FRI",
        "timezone": "America/New_York",
        "start_at": "2026-01-05T05:00:00+00:00",
        "end_at": "2026-02-01T00:00:00+00:00",
        "catchup": "all",
        "overlap": "queue",
        "priority": -7,
        "source": "submitted",
        "error": None,
        "next_at": "2026-01-05T14:30:00+00:00",
        "submitted_at": "2026-01-01T11:59:50+00:00",
        "last_at": None,
        "last_run_id": None,
        "last_status": None,
    }
    assert found.next_at == datetime(2026, 1, 5, 9, 30, tzinfo=ZoneInfo("America/New_York"))


def test_the_keys_of_a_job_and_its_json_stay_the_same_whatever_it_is(timed):
    """R62."""
    timed.bench.step("absent", lambda: 0)
    timed.bench.sequence(seq_id="gone")
    scheduler = timed.start(
        job(), job("gone", "*/5 * * * *"), Submission("tick", job_id="once"), job(job_id="held"),
        job(job_id="over", end_date=at("11:00:00")),
    )  # fmt: skip
    scheduler.pause_job("held")
    timed.clock.advance(minutes=1)
    sql(scheduler, "UPDATE jobs SET status = 'BROKEN', error = 'so it is' WHERE job_id = 'gone'")
    timed.clock.advance(minutes=1)
    told = [json.loads(json.dumps(job.to_dict())) for job in scheduler.jobs]
    assert {job["job_id"]: job["status"] for job in told} == {
        "gone": "BROKEN", "held": "PAUSED", "once": "ENDED", "over": "ENDED", "tick": "ACTIVE",
    }  # fmt: skip
    assert len({tuple(job) for job in told}) == 1
    ticked = next(job for job in told if job["job_id"] == "tick")
    assert (ticked["last_at"], ticked["last_status"]) == ("2026-01-01T12:01:00+00:00", "COMPLETED")
    assert ticked["last_run_id"] == scheduler.state.find_run("last").run_id


def test_several_jobs_are_stored_together_and_given_back_in_their_order(timed):
    scheduler = timed.start()
    found = scheduler.submit(job(job_id=name) for name in ("b", "a", "c"))
    assert [job.job_id for job in found] == ["b", "a", "c"]
    assert [job.job_id for job in scheduler.jobs] == ["a", "b", "c"]
    assert scheduler.submit([]) == []


def test_of_several_jobs_all_or_none_are_stored_and_all_faults_are_told_at_once(timed):
    """R65: each with where it is, what it is, and what was probably meant."""
    timed.noting("billing")
    scheduler = timed.start()
    found = faults_of(
        scheduler,
        [
            job(job_id="fine"),
            job("biling"),
            job(job_id="no cron", interval="* * *"),
            job(job_id="twice", timezone="Europe/Berlyn"),
            job(job_id="twice", catchup="some", overlap="sometimes", priority=0.5),
            "tick",
        ],
    )
    assert [where for where, _ in found] == [
        "job 'biling'", "job 'no cron'", "job 'no cron'", "job 'twice'", "job 'twice'", "job 'twice'", "job 'twice'",
        "job 'twice'", "submission 6",
    ]  # fmt: skip
    told = [what for _, what in found]
    assert "there is no sequence 'biling'" in told[0] and "did you mean 'billing'?" in told[0]
    assert "it has 3 fields" in told[2]
    assert "Europe/Berlyn" in told[3]
    assert "catchup is one of skip, latest, all" in told[4] and "overlap is one of" in told[5]
    assert "priority is a whole number" in told[6]
    assert "stands twice in this list" in told[7]
    assert "a SubmitSequenceData, got" in told[8]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"seq_id": None}, "seq_id"),
        ({"seq_id": ["tick"]}, "seq_id"),
        ({"seq_id": 7}, "seq_id"),
        ({"job_id": 7}, "job_id"),
        ({"job_id": ["tick"]}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"job_id": "a/b"}, "job_id"),
        ({"job_id": "x" * 129}, "job_id"),
        ({"parameters": 7}, "parameters"),
        ({"parameters": [1]}, "parameters"),
        ({"parameters": {"step_of_tick": 7}}, "parameters"),
        ({"parameters": {"nowhere": {"a": 1}}}, "nowhere"),
        ({"parameters": {"step_of_tick": {"a": 1}}}, "'a'"),
        ({"interval": 7}, "cron"),
        ({"interval": ""}, "empty"),
        ({"interval": ["* * * * *"]}, "cron"),
        ({"interval": "0 0 30 2 *"}, "it never fires"),
        ({"interval": "61 * * * *"}, "61"),
        ({"timezone": 7}, "IANA name"),
        ({"timezone": "../UTC"}, "no time zone"),
        ({"start_date": "2026-01-01"}, "start_date is a datetime, got"),
        ({"start_date": 1_700_000_000}, "start_date is a datetime, got"),
        ({"end_date": date(2026, 1, 1)}, "end_date is a datetime, got"),
        ({"start_date": datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))}, "start_date is beyond"),
        ({"end_date": datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))}, "end_date is beyond"),
        ({"start_date": at("13:00:00"), "end_date": at("12:59:59")}, "is before start_date"),
        ({"catchup": "none"}, "catchup is one of"),
        ({"catchup": None}, "catchup is one of"),
        ({"overlap": ["skip"]}, "overlap is one of"),
        ({"priority": True}, "priority is a whole number"),
        ({"priority": 2_000_000}, "priority is a whole number"),
        ({"priority": "high"}, "priority is a whole number"),
    ],
)
def test_a_submission_of_wrong_values_is_refused_with_one_clear_fault(timed, settings, what):
    """R17, R18, R29, R30."""
    scheduler = timed.start()
    seq_id = settings.pop("seq_id", "tick")
    found = faults_of(scheduler, job(seq_id, **settings))
    assert len(found) == 1, found
    assert what in ": ".join(found[0])


@pytest.mark.parametrize("given", [None, 7, "tick", {"seq_id": "tick"}, [None], [["tick"]]])
def test_what_is_no_submission_is_refused_by_what_it_is(timed, given):
    assert [where for where, _ in faults_of(timed.start(), given)] == ["submission 1"]


def test_parameters_are_held_against_the_blocks_when_they_are_submitted(timed):
    """R29, R30."""

    def load(table: str, limit: int = 5):
        return table

    timed.sequence("load", load)
    scheduler = timed.start()
    for parameters, where, what in [
        ({}, "load", "table"),
        ({"step_of_load": {"table": 7}}, "table", "str"),
        ({"step_of_load": {"table": "t", "limit": True}}, "limit", "int"),
        ({"step_of_load": {"table": "t", "limt": 7}}, "limt", "limit"),
        ({"step_of_load": {"table": "t", "limit": float("nan")}}, "limit", "int"),
    ]:
        (found,) = faults_of(scheduler, job("load", parameters=parameters))
        told = ": ".join(found)
        assert "job 'load'" in told and where in told and what in told
    two = faults_of(
        scheduler, [job("load", job_id="a"), job("load", job_id="b", parameters={"step_of_load": {"table": 1}})]
    )
    assert [where[:7] for where, _ in two] == ["job 'a'", "job 'b'"]


@dataclass
class Window:
    start: datetime
    days: int = 1


def test_stored_parameters_come_back_as_what_they_were_at_every_tick_and_after_a_restart(timed):
    seen = []

    def load(window: Window, tags: set, options: dict):
        seen.append((window, tags, options))

    timed.sequence("load", load)
    given = {"window": Window(at("10:00:00"), 2), "tags": {"a"}, "options": {"deep": [1, (2, 3)]}}
    scheduler = timed.start(job("load", parameters={"step_of_load": given}))
    timed.clock.advance(minutes=1)
    scheduler.stop()
    timed.start()
    timed.clock.advance(minutes=1)
    assert seen == [(Window(at("10:00:00"), 2), {"a"}, {"deep": [1, (2, 3)]})] * 2
    (fault,) = faults_of(
        timed.schedulers[-1],
        job("load", parameters={"step_of_load": {**given, "options": {"hooks": [1, lambda: 0]}}}),
    )
    assert "options['hooks'][1]" in fault[0] and "can't be stored" in fault[1]


def test_what_the_caller_changes_later_changes_no_stored_job(timed):
    timed.bench.step("load", lambda rows: timed.noted.append(("load", list(rows))))
    timed.bench.sequence(seq_id="load")
    given = {"load": {"rows": [1]}}
    data = job("load", parameters=given)
    timed.start().submit(data)
    given["load"]["rows"].append(2)
    data.seq_run_interval = "nonsense"
    timed.clock.advance(minutes=1)
    assert timed.noted == [("load", [1])]


@pytest.mark.parametrize(
    ("start", "end", "ticks"),
    [
        (at("12:02:00"), at("12:04:00"), ["12:02:00", "12:03:00", "12:04:00"]),
        (datetime(2026, 1, 1, 13, 2), datetime(2026, 1, 1, 13, 3), ["12:02:00", "12:03:00"]),
        (datetime(2026, 1, 1, 7, 1, tzinfo=ZoneInfo("America/New_York")), at("12:01:59"), ["12:01:00"]),
        (at("12:01:00") + timedelta(microseconds=1), at("12:02:00"), ["12:02:00"]),
        (at("12:01:00") - timedelta(microseconds=1), at("12:01:00"), ["12:01:00"]),
        (at("08:00:00"), at("12:00:00"), ["12:00:00"]),
    ],
)
def test_both_dates_are_inclusive_and_naive_ones_are_in_the_zone_of_the_job(timed, start, end, ticks):
    """R16, R19."""
    scheduler = timed.start(job(start_date=start, end_date=end, timezone="Europe/Berlin"))
    timed.clock.advance(hours=1)
    assert timed.times() == ticks
    assert scheduler.state.job("tick").status is ENDED


def test_a_job_without_a_tick_between_its_dates_has_ended_at_once(timed):
    """R19: EXHAUSTED at once, not PENDING."""
    scheduler = timed.start()
    found = scheduler.submit(job(start_date=at("12:00:01"), end_date=at("12:00:59")))
    assert (found.status, found.next_at) == (ENDED, None)
    assert scheduler.submit(job(job_id="past", end_date=at("11:59:49"))).status is ENDED
    timed.clock.advance(hours=1)
    assert timed.noted == [] and history(scheduler) == []


def test_dates_at_the_end_of_the_calendar_do_no_harm(timed):
    scheduler = timed.start()
    far = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert scheduler.submit(job(job_id="far", start_date=far, timezone="Asia/Tokyo")).status is ENDED
    late = scheduler.submit(Submission("tick", job_id="late", start_date=far))
    assert (late.status, late.next_at) == (ACTIVE, far)
    assert scheduler.submit(job(job_id="long", end_date=far)).status is ACTIVE
    early = scheduler.submit(job(job_id="early", start_date=datetime(1, 1, 1, tzinfo=UTC)))
    assert early.next_at == at("12:00:00")
    json.dumps([job.to_dict() for job in scheduler.jobs])
    str(scheduler.status())
    timed.clock.advance(minutes=1)
    assert sorted(name for name, _ in timed.noted) == ["early", "long"]


# ---------------------------------------------------------------------- jobs that fire once


def test_without_an_interval_it_runs_once_and_has_ended(timed):
    scheduler = timed.start(Submission("tick"))
    assert timed.times() == ["11:59:50"]
    assert scheduler.state.job("tick").status is ENDED
    timed.clock.advance(hours=1)
    assert len(timed.noted) == 1


def test_each_submission_of_a_sequence_to_run_now_is_run(timed):
    """Also two at the same instant: a tick is unique, what was asked for twice is made twice."""
    scheduler = timed.start()
    for number in range(1, 4):
        scheduler.submit(Submission("tick"))
        timed.clock.settle()
        assert len(timed.noted) == number
    timed.clock.advance(seconds=1)
    scheduler.submit(Submission("tick"))
    timed.clock.settle()
    assert len(timed.noted) == 4


def test_a_sequence_to_run_now_that_was_not_run_yet_is_run_once_for_its_replacement_and_the_first_is_told(timed):
    scheduler = timed.scheduler()
    scheduler.submit(Submission("tick"))
    scheduler.submit(Submission("tick", priority=1))
    scheduler.start()
    timed.clock.settle()
    assert len(timed.noted) == 1
    assert sorted(status for status, *_ in history(scheduler)) == ["COMPLETED", "SKIPPED"]


def test_a_dated_job_fires_at_its_date_and_not_again_when_it_is_submitted_again(timed):
    """R3, R65: repeated identical submission is idempotent."""
    scheduler = timed.start(Submission("tick", start_date=at("12:30:00")))
    timed.clock.advance(hours=1)
    assert timed.times() == ["12:30:00"]
    for _ in range(2):
        assert scheduler.submit(Submission("tick", start_date=at("12:30:00"))).status is ENDED
        timed.clock.advance(hours=1)
    assert timed.times() == ["12:30:00"]
    scheduler.submit(Submission("tick", start_date=at("15:00:00"), priority=3))
    timed.clock.advance(hours=1)
    assert timed.times() == ["12:30:00", "15:00:00"]


@pytest.mark.parametrize("priority", [0, 1])
def test_a_dated_job_that_could_not_be_fired_yet_is_not_lost_by_submitting_it_again(timed, priority):
    """As a program does whenever it starts."""
    timed.start(Submission("tick", start_date=at("12:30:00"))).stop()
    timed.clock.advance(hours=1)
    scheduler = timed.scheduler()
    scheduler.submit(Submission("tick", start_date=at("12:30:00"), priority=priority))
    scheduler.start()
    timed.clock.settle()
    assert timed.times() == ["12:30:00"]
    assert history(scheduler) == [("COMPLETED", None, 1, "12:30:00", "12:30:00")]
    assert scheduler.submit(Submission("tick", start_date=at("12:30:00"))).status is ENDED


def test_a_dated_job_whose_date_has_passed_is_run_at_once(timed):
    scheduler = timed.start(Submission("tick", start_date=at("09:00:00")))
    assert timed.times() == ["09:00:00"]
    assert scheduler.state.job("tick").status is ENDED


# ---------------------------------------------------------------------- submitting again


def test_an_unchanged_job_stays_as_it_is(timed):
    """R65."""
    scheduler = timed.start(job())
    before = scheduler.state.job("tick")
    timed.clock.advance(seconds=3)
    assert scheduler.submit(job()) == before
    timed.clock.advance(minutes=2)
    assert scheduler.submit(job()).submitted_at == before.submitted_at
    assert timed.times() == ["12:00:00", "12:01:00"]


def test_a_changed_job_keeps_its_history_and_fires_nothing_past(timed):
    scheduler = timed.start(job(interval="0 * * * *"))
    timed.clock.advance(minutes=2)
    found = scheduler.submit(job(interval="*/10 * * * *", start_date=at("09:00:00"), catchup="all"))
    assert found.next_at == at("12:10:00")
    assert found.last_at == at("12:00:00")
    timed.clock.settle()
    assert timed.times() == ["12:00:00"]
    timed.clock.advance(minutes=10)
    assert timed.times() == ["12:00:00", "12:10:00"]


@pytest.mark.parametrize("changed", [False, True])
def test_a_pause_outlives_a_submission(timed, changed):
    scheduler = timed.start(job())
    scheduler.pause_job("tick")
    timed.clock.advance(minutes=3)
    found = scheduler.submit(job(interval="*/2 * * * *" if changed else "* * * * *"))
    assert found.status is PAUSED
    timed.clock.advance(minutes=3)
    assert timed.noted == []
    scheduler.resume_job("tick")
    timed.clock.advance(minutes=1)
    assert timed.times() == ["12:06:00"]


@pytest.mark.parametrize("interval", ["* * * * *", "*/5 * * * *"])
def test_due_ticks_that_a_submission_drops_are_recorded_and_told(timed, interval):
    """DESIGN 3: nothing is dropped silently. DESIGN 6: a submission never fires a past tick."""
    timed.start(job()).stop()
    timed.clock.advance(minutes=10)
    scheduler = timed.scheduler(hooks=["on_skip"])
    scheduler.submit(job(interval=interval))
    scheduler.start()
    timed.clock.settle()
    assert timed.noted == []
    assert history(scheduler) == [("SKIPPED", "resubmitted", 10, "12:00:00", "12:09:00")]
    assert [(event.reason, event.missed, event.job_id) for _, event in timed.told] == [("resubmitted", 10, "tick")]
    timed.clock.advance(minutes=5)
    assert timed.times()[0] == ("12:10:00")


def test_ticks_that_passed_in_a_pause_are_recorded_also_when_the_job_is_submitted_anew_meanwhile(timed):
    """DESIGN 3: nothing is dropped silently."""
    scheduler = timed.start(job())
    scheduler.pause_job("tick")
    timed.clock.advance(minutes=3)
    scheduler.submit(job(priority=1))
    timed.clock.advance(minutes=2)
    scheduler.resume_job("tick")
    assert history(scheduler) == [
        ("SKIPPED", "paused", 3, "12:00:00", "12:02:00"), ("SKIPPED", "paused", 2, "12:03:00", "12:04:00"),
    ]  # fmt: skip


def test_a_job_may_change_its_sequence_and_its_kind(timed):
    timed.noting("other")
    scheduler = timed.start(job(job_id="one"))
    timed.clock.advance(minutes=1)
    scheduler.submit(Submission("other", job_id="one", start_date=at("12:05:00")))
    timed.clock.advance(minutes=10)
    assert timed.times() == ["12:00:00", "12:05:00"]
    assert [run.seq_id for run in scheduler.state.runs(job_id="one").items] == ["other", "tick"]
    scheduler.submit(job(job_id="one"))
    timed.clock.advance(minutes=1)
    assert timed.times()[2:] == ["12:11:00"]


# ---------------------------------------------------------------------- pausing, resuming, removing


def test_a_paused_job_fires_nothing_and_its_ticks_are_recorded_and_not_caught_up(timed):
    """DESIGN 6; R20: missed ticks are counted and visible."""
    scheduler = timed.start(job(catchup="all"), job(job_id="other", interval="*/2 * * * *"), hooks=["on_skip"])
    assert scheduler.pause_job("tick") is True
    assert scheduler.pause_job("tick") is False
    assert scheduler.state.job("tick").status is PAUSED
    timed.clock.advance(minutes=5)
    assert timed.times("tick") == [] and timed.times("other") == ["12:00:00", "12:02:00", "12:04:00"]
    assert scheduler.resume_job("tick") is True
    assert scheduler.resume_job("tick") is False
    timed.clock.settle()
    assert history(scheduler, "tick") == [("SKIPPED", "paused", 5, "12:00:00", "12:04:00")]
    assert [(hook, event.job_id, event.reason, event.missed) for hook, event in timed.told] == [
        ("on_skip", "tick", "paused", 5)
    ]
    timed.clock.advance(minutes=1)
    assert timed.times("tick") == ["12:05:00"]


def test_a_pause_without_a_tick_leaves_no_record(timed):
    scheduler = timed.start(job())
    scheduler.pause_job("tick")
    timed.clock.advance(seconds=5)
    scheduler.resume_job("tick")
    timed.clock.advance(seconds=5)
    assert history(scheduler) == [("COMPLETED", None, 1, "12:00:00", "12:00:00")]


def test_a_job_whose_last_tick_passed_in_its_pause_has_ended(timed):
    scheduler = timed.start(job(end_date=at("12:03:00")), Submission("tick", job_id="once", start_date=at("12:01:00")))
    for name in ("tick", "once"):
        scheduler.pause_job(name)
    timed.clock.advance(minutes=10)
    for name in ("tick", "once"):
        scheduler.resume_job(name)
        assert scheduler.state.job(name).status is ENDED
    timed.clock.advance(minutes=10)
    assert timed.noted == []
    assert history(scheduler, "tick") == [("SKIPPED", "paused", 4, "12:00:00", "12:03:00")]
    assert history(scheduler, "once") == [("SKIPPED", "paused", 1, "12:01:00", "12:01:00")]


def test_a_paused_job_is_nothing_that_will_be_due(timed):
    scheduler = timed.start(job())
    scheduler.pause_job("tick")
    timed.clock.settle()
    with pytest.raises(BlazeError, match="nothing will be due"):
        timed.clock.to_next_tick()
    scheduler.resume_job("tick")
    scheduler.remove_job("tick")
    timed.clock.settle()
    with pytest.raises(BlazeError, match="nothing will be due"):
        timed.clock.to_next_tick()
    scheduler.submit(job())
    assert scheduler.clear_jobs() == 1
    timed.clock.settle()
    with pytest.raises(BlazeError, match="nothing will be due"):
        timed.clock.to_next_tick()


def test_a_pause_of_a_job_outlives_a_restart(timed):
    timed.start(job()).pause_job("tick")
    timed.schedulers[0].stop()
    scheduler = timed.start()
    timed.clock.advance(minutes=3)
    assert timed.noted == [] and scheduler.state.job("tick").status is PAUSED
    scheduler.resume_job("tick")
    timed.clock.advance(minutes=1)
    assert timed.times() == ["12:03:00"]


def test_pausing_a_job_lets_its_run_go_on(timed):
    timed.waiting("slow")
    timed.clock._patience = 0.05
    scheduler = timed.start(job("slow"))
    timed.clock.advance(seconds=10)
    scheduler.pause_job("slow")
    timed.gate.set()
    timed.clock.settle()
    assert history(scheduler) == [("COMPLETED", None, 1, "12:00:00", "12:00:00")]


def test_unknown_jobs_are_not_found_and_near_names_are_told(timed):
    scheduler = timed.start(job(job_id="nightly"))
    for ask in (scheduler.pause_job, scheduler.resume_job, scheduler.remove_job, scheduler.state.job):
        with pytest.raises(NotFound, match=r"there is no job 'nightlly'.*did you mean 'nightly'"):
            ask("nightlly")
    assert [job.job_id for job in scheduler.jobs] == ["nightly"]


@pytest.mark.parametrize("name", [None, 7, ["a"], "", "a'b; DROP TABLE jobs", "x" * 10_000])
def test_what_can_be_no_job_is_not_found_either(timed, name):
    scheduler = timed.start(job())
    for ask in (scheduler.pause_job, scheduler.resume_job, scheduler.remove_job):
        with pytest.raises((NotFound, ValidationError)) as refused:
            ask(name)
        assert len(str(refused.value)) < 500
    assert len(scheduler.jobs) == 1


def test_a_removed_job_fires_no_more_and_its_history_stays(timed):
    scheduler = timed.start(job(), job(job_id="other"))
    timed.clock.advance(minutes=1)
    scheduler.remove_job("tick")
    with pytest.raises(NotFound):
        scheduler.remove_job("tick")
    timed.clock.advance(minutes=1)
    assert timed.times("tick") == ["12:00:00"] and len(timed.times("other")) == 2
    assert len(scheduler.state.runs(job_id="tick").items) == 1
    assert scheduler.clear_jobs() == 1
    assert scheduler.clear_jobs() == 0
    assert scheduler.jobs == []
    timed.clock.advance(minutes=1)
    assert len(timed.noted) == 3
    assert len(scheduler.state.runs().items) == 3


def test_a_job_that_was_removed_and_comes_back_fires_no_tick_twice(timed):
    """R3."""
    scheduler = timed.start(job())
    timed.clock.advance(seconds=10)
    scheduler.remove_job("tick")
    timed.clock.jump(-30)
    scheduler.submit(job())
    timed.clock.advance(minutes=2)
    assert timed.times() == ["12:00:00", "12:01:00"]


def test_removing_a_job_cancels_what_waits_in_its_queue_and_not_what_runs(timed):
    timed.waiting("slow")
    timed.clock._patience = 0.02
    scheduler = timed.start(job("slow", overlap="queue"))
    timed.clock.advance(minutes=3)
    scheduler.remove_job("slow")
    timed.gate.set()
    timed.clock.settle()
    assert [entry[:2] for entry in history(scheduler)] == [("COMPLETED", None)] + [("CANCELLED", "job_removed")] * 2
    assert timed.times() == ["12:00:00"]


# ---------------------------------------------------------------------- pausing everything


def test_pausing_the_scheduler_holds_every_tick_and_step_until_it_is_resumed(timed):
    scheduler = timed.start(job(catchup="all"), hooks=["on_skip"])
    scheduler.pause()
    assert scheduler.status().state == "PAUSED"
    handle = scheduler.trigger("tick")
    timed.clock.advance(minutes=4)
    assert timed.noted == [] and handle.status is RunStatus.PENDING
    scheduler.resume()
    assert handle.result(PATIENCE).status is RunStatus.COMPLETED
    timed.clock.advance(minutes=1)
    assert timed.times() == [None, "12:04:00"]
    assert history(scheduler, "tick")[0] == ("SKIPPED", "paused", 4, "12:00:00", "12:03:00")
    assert [event.missed for _, event in timed.told] == [4]
    assert scheduler.status().state == "RUNNING"


def test_a_pause_of_everything_outlives_a_restart(timed):
    timed.start(job()).pause()
    timed.schedulers[0].stop()
    timed.clock.advance(minutes=2)
    scheduler = timed.start()
    assert scheduler.status().state == "PAUSED" and scheduler.state.is_paused()
    timed.clock.advance(minutes=2)
    assert timed.noted == []
    scheduler.resume()
    timed.clock.advance(minutes=1)
    assert timed.times() == ["12:04:00"]
    assert history(scheduler)[0] == ("SKIPPED", "paused", 4, "12:00:00", "12:03:00")


def test_a_paused_state_fires_nothing_that_is_submitted_right_after_the_start(timed):
    """Before the first look at the file, which comes after ``loop_interval`` where there were no jobs."""
    timed.start().pause()
    timed.schedulers[0].stop()
    scheduler = timed.scheduler(loop_interval=1000).start()
    scheduler.submit(job(interval="* * * * * *"))
    timed.clock.advance(seconds=5)
    assert history(scheduler) == []
    scheduler.resume()
    timed.clock.advance(seconds=1)
    assert [entry[:3] for entry in history(scheduler)] == [("SKIPPED", "paused", 5), ("COMPLETED", None, 1)]


def test_pausing_twice_and_resuming_what_is_not_paused_do_nothing(timed):
    scheduler = timed.start(job())
    scheduler.resume()
    scheduler.pause()
    scheduler.pause()
    scheduler.resume()
    scheduler.resume()
    timed.clock.advance(minutes=1)
    assert history(scheduler) == [("COMPLETED", None, 1, "12:00:00", "12:00:00")]


def test_a_paused_job_stays_paused_when_everything_is_resumed(timed):
    scheduler = timed.start(job(), job(job_id="other"))
    scheduler.pause_job("tick")
    scheduler.pause()
    timed.clock.advance(minutes=2)
    scheduler.resume()
    timed.clock.advance(minutes=1)
    assert [name for name, _ in timed.noted] == ["other"]
    assert scheduler.state.job("tick").status is PAUSED


def test_pausing_before_the_start_holds(timed):
    scheduler = timed.scheduler()
    scheduler.pause()
    scheduler.submit([job(), Submission("tick", job_id="once")])
    scheduler.start()
    timed.clock.advance(minutes=1)
    assert timed.noted == []


# ---------------------------------------------------------------------- broken jobs


def without(timed, *names):
    """A registry that lacks some sequences."""
    found = BlazeSequence()
    for name, sequence in timed.bench.sequences.items():
        if name not in names:
            found._sequences[name] = sequence
    return found


def test_a_job_whose_sequence_is_gone_is_broken_and_the_others_go_on(timed):
    """R8: kept and visible. It comes back at the next start that has the sequence."""
    timed.noting("tack")
    timed.start(job(), job("tack", catchup="all")).stop()
    scheduler = timed.start(sequences=without(timed, "tack"))
    timed.clock.advance(minutes=2)
    assert [name for name, _ in timed.noted] == ["tick", "tick"]
    found = scheduler.state.job("tack")
    assert found.status is BROKEN and "no scheduler that runs has the sequence 'tack'" in found.error
    assert "did you mean 'tick'" in found.error
    assert scheduler.health().broken_jobs == 1 and not scheduler.health().ok
    with pytest.raises(ValidationError, match="there is no sequence 'tack' here"):
        scheduler.resume_job("tack")
    scheduler.stop()
    again = timed.start()
    timed.clock.settle()
    found = again.state.job("tack")
    assert (found.status, found.error) == (ACTIVE, None)
    timed.clock.advance(minutes=1)
    assert timed.times("tack") == ["12:00:00", "12:01:00", "12:02:00"]  # caught up with, as if nothing had run
    assert again.health().ok


def test_a_job_with_an_unreadable_row_is_broken_and_can_be_mended_by_hand(timed):
    scheduler = timed.start(job(), job(job_id="good"))
    sql(scheduler, "UPDATE jobs SET interval = 'whenever', version = version + 1 WHERE job_id = 'tick'")
    timed.clock.advance(minutes=2)
    found = scheduler.state.job("tick")
    assert found.status is BROKEN and "whenever" in found.error
    assert timed.times("good") == ["12:00:00", "12:01:00"] and timed.times("tick") == []
    with pytest.raises(ValidationError, match="whenever"):
        scheduler.resume_job("tick")
    sql(scheduler, "UPDATE jobs SET interval = '* * * * *' WHERE job_id = 'tick'")
    assert scheduler.resume_job("tick") is True
    timed.clock.advance(minutes=1)
    assert timed.times("tick") == ["12:01:00", "12:02:00"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("interval", "0 0 30 2 *"), ("interval", b"\x00"), ("timezone", "Mars/Base"), ("timezone", 7),
        ("parameters", "{broken"), ("parameters", "[1, 2]"), ("parameters", '{"nowhere": {"a": 1}}'),
        ("end_at", "soon"), ("catchup", "whatever"), ("overlap", "whatever"), ("priority", "high"), ("next_at", "soon"),
        ("start_at", "soon"),
    ],
)  # fmt: skip
def test_whatever_stands_in_a_row_the_other_jobs_go_on_and_it_is_told(timed, column, value):
    """DESIGN 6: one bad job never stops the others; it becomes BROKEN with its error."""
    scheduler = timed.start(job(), job(job_id="good"))
    sql(scheduler, f"UPDATE jobs SET {column} = ?, version = version + 1 WHERE job_id = 'tick'", value)
    timed.clock.advance(minutes=3)
    assert timed.times("good") == ["12:00:00", "12:01:00", "12:02:00"]
    health = scheduler.health()
    assert health.restarts["ticker"] == 0
    (status,) = sql(scheduler, "SELECT status FROM jobs WHERE job_id = 'tick'")[0]
    if column not in ("start_at", "next_at"):  # the one is not read any more, the other never comes
        assert status == "BROKEN" and health.broken_jobs == 1
    scheduler.remove_job("tick")
    assert scheduler.health().ok


def test_a_job_whose_parameters_fit_no_more_is_broken_until_they_do(timed, caplog):
    """R8."""
    timed.bench.step("load", lambda limit=5: timed.noted.append(("load", limit)))
    timed.bench.sequence(seq_id="load")
    timed.start(job("load", parameters={"load": {"limit": 7}}), job()).stop()
    other = Timed(timed.folder)
    other.clock = timed.clock
    other.bench.step("load", lambda number=5: other.noted.append(("load", number)))
    other.bench.sequence(seq_id="load")
    scheduler = other.start()
    other.clock.advance(minutes=1)
    found = scheduler.state.job("load")
    assert found.status is BROKEN and "limit" in found.error
    assert "job of sequence 'load' is BROKEN: " in caplog.text
    for number in range(3):  # it is looked at again whenever another process has written something
        with contextlib.closing(sqlite3.connect(timed.folder / "state" / "blaze.db")) as another, another:
            another.execute("INSERT INTO settings (name, value) VALUES (?, '')", (f"anything-{number}",))
        other.clock.advance(minutes=3)
    assert scheduler.state.job("load").status is BROKEN
    assert caplog.text.count("is BROKEN") == 1 and "is ACTIVE again" not in caplog.text
    assert other.times("tick")[:2] == ["12:00:00", "12:01:00"]
    # A submission mends it too.
    assert scheduler.submit(job("load", parameters={"load": {"number": 9}})).status is ACTIVE
    other.clock.advance(minutes=1)
    assert ("load", 9) in other.noted
    other.close()


def test_a_check_of_the_users_own_that_raises_anything_breaks_its_job_only(timed):
    class Model:
        bad = False

        @classmethod
        def model_validate(cls, given):
            if cls.bad:
                raise RuntimeError("the registry of limits is not reachable")
            found = cls()
            found.limit = given["limit"]
            return found

    timed.bench.step("load", lambda limit=5: 0, data_model=Model)
    timed.bench.sequence(seq_id="load")
    timed.start(job("load", parameters={"load": {"limit": 7}}), job()).stop()
    Model.bad = True
    timed.bench.blocks.block(name="unrelated")(keep)  # so that plans are made anew
    scheduler = timed.start()
    timed.clock.advance(minutes=2)
    assert timed.times("tick") == ["12:00:00", "12:01:00"]
    assert scheduler.health().restarts["ticker"] == 0
    assert scheduler.state.job("load").status is BROKEN
    assert "the registry of limits" in scheduler.state.job("load").error


# ---------------------------------------------------------------------- looking at jobs and their ticks


def test_jobs_are_found_in_pages_by_sequence_and_state(timed):
    timed.noting("tack")
    names = [f"job{number:03}" for number in range(25)]
    scheduler = timed.start(*(job("tack" if number % 5 == 0 else "tick", job_id=n) for number, n in enumerate(names)))
    scheduler.pause_job("job003")
    found, cursor = [], None
    while True:
        page = scheduler.state.jobs(limit=7, cursor=cursor)
        found += [job.job_id for job in page.items]
        assert len(page.items) <= 7
        cursor = page.next
        if cursor is None:
            break
    assert found == names
    assert [job.job_id for job in scheduler.state.jobs(seq_id="tack").items] == names[::5]
    assert [job.job_id for job in scheduler.state.jobs(status="paused").items] == ["job003"]
    assert [job.job_id for job in scheduler.state.jobs(status=PAUSED, seq_id="tack").items] == []
    assert scheduler.state.job_counts() == {ACTIVE: 24, PAUSED: 1, ENDED: 0, BROKEN: 0}
    for wrong in ({"status": "GONE"}, {"limit": 0}, {"cursor": "nonsense"}, {"seq_id": 7}, {"status": 7}):
        with pytest.raises(ValidationError):
            scheduler.state.jobs(**wrong)


def test_a_missed_tick_is_made_up_for_by_hand_with_its_own_time_and_parameters(timed):
    seen = []
    timed.bench.step("load", lambda limit: seen.append((limit, timed.clock.now)))
    timed.bench.sequence(seq_id="load")
    timed.start(job("load", catchup="skip", parameters={"load": {"limit": 7}})).stop()
    timed.clock.advance(minutes=3)
    scheduler = timed.start()
    (missed,) = scheduler.state.runs().items
    assert (missed.status, missed.reason, missed.missed) == (RunStatus.SKIPPED, "missed", 3)
    result = scheduler.retry(missed.run_id).result(PATIENCE)
    assert result.status is RunStatus.COMPLETED
    assert [limit for limit, _ in seen] == [7]
    retried = scheduler.state.find_run(result.run_id)
    assert (retried.retry_of, retried.scheduled_at) == (missed.run_id, missed.scheduled_at)


def test_a_run_that_waits_in_its_queue_can_be_cancelled(timed):
    timed.waiting("slow")
    timed.clock._patience = 0.02
    scheduler = timed.start(job("slow", overlap="queue"))
    timed.clock.advance(minutes=3)
    _, *queued = scheduler.state.runs(status=["PENDING", "RUNNING"]).items[::-1]
    assert len(queued) == 2 and {run.reason for run in queued} == {"queued"}
    assert scheduler.cancel(queued[0].run_id) is True
    assert scheduler.cancel(queued[0].run_id) is False
    scheduler.pause_job("slow")
    timed.gate.set()
    timed.clock.settle()
    assert timed.times() == ["12:00:00", "12:02:00"]
    assert [entry[:2] for entry in history(scheduler)] == [
        ("COMPLETED", None), ("CANCELLED", "cancelled_by_user"), ("COMPLETED", None),
    ]  # fmt: skip
    record = scheduler.state.find_run(queued[0].run_id)
    assert record.ended_at == timed.clock.now


def test_jobs_survive_the_scheduler_that_took_them(timed):
    """R2, R65: also when it was never started."""
    scheduler = timed.scheduler()
    scheduler.submit(job())
    assert timed.noted == []
    scheduler.stop()
    with pytest.raises(BlazeError, match="was stopped"):
        scheduler.submit(job())
    assert [found.job_id for found in timed.start().jobs] == ["tick"]


def test_the_hard_stop_clears_the_jobs(timed):
    scheduler = timed.start(job())
    timed.clock.advance(minutes=1)
    scheduler.stop(shutdown=True)
    again = timed.start()
    timed.clock.advance(minutes=1)
    assert again.jobs == [] and again.state.runs().items == [] and len(timed.noted) == 1


def test_a_name_match_parameter_of_a_sequence_needs_nothing_from_the_job(timed):
    bench = timed.bench
    bench.blocks.block(name="fetch")(lambda: [1, 2])
    bench.blocks.block(name="clean")(lambda fetch: timed.noted.append(("clean", fetch)))
    bench.sequences.sequence(
        blocks=bench.blocks, sequence=[SeqBlockData("fetch"), SeqBlockData("clean", ["fetch"])], seq_id="etl"
    )(keep)
    timed.start(job("etl"))
    timed.clock.advance(minutes=1)
    assert timed.noted == [("clean", [1, 2])]


def test_two_threads_that_submit_the_same_job_leave_one(timed):
    import threading

    scheduler = timed.start()
    failures = []
    barrier = threading.Barrier(8)

    def submit(number):
        barrier.wait(PATIENCE)
        try:
            scheduler.submit(job(priority=number % 3))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    assert len(scheduler.jobs) == 1
    timed.clock.advance(minutes=1)
    assert timed.times() == ["12:00:00"]
