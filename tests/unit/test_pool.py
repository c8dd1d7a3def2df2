"""The ready queue and its workers, without any run."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from blaze.core.do import pool as pool_module
from blaze.core.do.pool import QUICK_FEW, Pool
from tests.integration.workbench import wait_until

PATIENCE = 5.0


class Work:
    """Work that tells when it was started and takes until it is let go."""

    def __init__(self, go):
        self.started = threading.Event()
        self.go = go

    def perform(self, index, worker):
        self.started.set()
        self.go.wait(PATIENCE)

    def broken(self, error):
        raise error

    def is_quick(self, index):
        return False


class Quick:
    """Work that is known to be quick and may prove otherwise."""

    def __init__(self, seen, index_that_hangs=None, go=None):
        self.seen, self.hangs, self.go = seen, index_that_hangs, go

    def perform(self, index, worker):
        self.seen.append((index, worker))
        if index == self.hangs:
            self.go.wait(PATIENCE)

    def is_quick(self, index):
        return True


@pytest.fixture
def pool():
    pool = Pool(4)
    pool.go = threading.Event()
    yield pool
    pool.go.set()
    for worker in pool.close():
        worker.join(PATIENCE)


def test_threads_are_made_when_there_is_work_and_no_more_than_fit(pool):
    assert not pool.workers
    works = [Work(pool.go) for _ in range(6)]
    pool.extend([(work, 0) for work in works])
    assert all(work.started.wait(PATIENCE) for work in works[:4])
    assert len(pool.workers) == 4 and len(pool.ready) == 2
    pool.go.set()
    assert all(work.started.wait(PATIENCE) for work in works)


def test_what_is_queued_finds_a_worker_though_another_item_is_taken_at_the_same_instant(pool):
    """A busy pool of which one worker takes the only queued item while another queues the next one."""

    class Queue(deque):
        def extend(self, items):
            while self:  # what another worker does between two lines of Pool.extend
                threading.Thread(target=self.popleft()[0].perform, args=(0, None), daemon=True).start()
            super().extend(items)

    pool.ready = Queue()
    first, taken, late = Work(pool.go), Work(pool.go), Work(pool.go)
    pool.push((first, 0))
    assert first.started.wait(PATIENCE)
    pool.ready.append((taken, 0))
    pool.extend([(late, 0)])
    assert taken.started.wait(PATIENCE)
    assert late.started.wait(1.0), "it waits though three of four places are free"


def test_while_held_nothing_starts_but_outcomes_are_recorded(pool):
    pool.go.set()
    pool.hold(True)
    work, outcome = Work(pool.go), Work(pool.go)
    pool.push((work, 0))
    pool.push_outcome((outcome, 0))
    assert outcome.started.wait(PATIENCE) and not work.started.is_set()
    pool.hold(False)
    assert work.started.wait(PATIENCE)


def test_every_item_is_performed_once_whoever_pushes_and_however_fast():
    class Once:
        def __init__(self):
            self.times = []

        def perform(self, index, worker):
            self.times.append(index)
            if len(self.times) == 4_000:
                done.set()

        def broken(self, error):
            raise error

        def is_quick(self, index):
            return index % 2 == 0

    done, once, pool = threading.Event(), Once(), Pool(3)
    pushers = [
        threading.Thread(target=lambda base=base: [pool.push((once, base + number)) for number in range(1_000)])
        for base in range(0, 4_000, 1_000)
    ]
    for thread in pushers:
        thread.start()
    assert done.wait(PATIENCE)
    for thread in [*pushers, *pool.close()]:
        thread.join(PATIENCE)
    assert sorted(once.times) == list(range(4_000)) and not pool.workers


def test_few_quick_items_are_left_to_one_worker_and_many_are_not(pool):
    seen = []
    pool.extend([(Quick(seen), index) for index in range(QUICK_FEW - 1)])
    wait_until(lambda: len(seen) == QUICK_FEW - 1)
    assert len({worker for _, worker in seen}) == 1 == len(pool.workers)
    pool.extend([(Work(pool.go), 0)])
    pool.extend([(Quick(seen), index) for index in range(10 * QUICK_FEW)])
    wait_until(lambda: len(seen) == 11 * QUICK_FEW - 1)
    assert len(pool.workers) > 1


def test_quick_items_behind_one_that_proves_slow_are_made_when_help_is_called(pool):
    seen = []
    work = Quick(seen, index_that_hangs=0, go=pool.go)
    pool.extend([(work, index) for index in range(5)])
    wait_until(lambda: seen)
    pool.call_help()
    wait_until(lambda: len(seen) == 5)


def test_a_thread_that_leaves_as_it_is_abandoned_is_not_counted(pool):
    """It is still alive on its last lines, but nobody would ever take it off the count again."""
    leave, left, end = pool.left, threading.Event(), threading.Event()

    def leave_slowly(worker):
        leave(worker)
        left.set()
        end.wait(PATIENCE)

    pool.left = leave_slowly
    work = Work(pool.go)
    pool.push((work, 0))
    assert work.started.wait(PATIENCE)
    (worker,) = pool.workers
    pool.condemn(worker)
    pool.go.set()
    assert left.wait(PATIENCE) and worker.is_alive()
    assert not pool.abandon(worker)
    end.set()
    worker.join(PATIENCE)
    assert not worker.is_alive() and pool.leaked == []


def test_a_thread_that_is_abandoned_is_counted_until_it_leaves(pool):
    work = Work(pool.go)
    pool.push((work, 0))
    assert work.started.wait(PATIENCE)
    (worker,) = pool.workers
    pool.condemn(worker)
    assert pool.abandon(worker) and pool.leaked == [worker]
    pool.go.set()
    worker.join(PATIENCE)
    assert pool.leaked == []


@pytest.fixture
def lingering(pool, monkeypatch):
    """A pool whose one worker has made one quick item, and lingers for long; what was seen."""
    monkeypatch.setattr(pool_module, "LINGER", 60.0)
    pool.seen = []
    pool.push((Quick(pool.seen), 1))
    wait_until(lambda: pool.lingering, "the worker's lingering")
    assert [index for index, _ in pool.seen] == [1] and len(pool.workers) == 1
    return pool


def test_quick_work_is_left_to_a_worker_that_lingers_until_somebody_waits_for_it(lingering):
    for index in (2, 3):
        lingering.push((Quick(lingering.seen), index))
    assert len(lingering.ready) == 2 and len(lingering.workers) == 1
    lingering.wait_for_run(lambda: wait_until(lambda: len(lingering.seen) == 3))
    assert not lingering.awaited and len(lingering.workers) == 1


def test_nothing_is_left_for_later_while_somebody_waits(lingering):
    def wait():
        lingering.push((Quick(lingering.seen), 2))
        wait_until(lambda: len(lingering.seen) == 2)

    lingering.wait_for_run(wait)


def test_slow_work_and_bookkeeping_wake_a_worker_that_lingers(lingering):
    lingering.push((Work(lingering.go), 2))
    wait_until(lambda: not lingering.lingering)
    lingering.go.set()
    wait_until(lambda: lingering.lingering)
    lingering.push((Quick(lingering.seen), -1))
    wait_until(lambda: len(lingering.seen) == 2)


def test_a_worker_that_lingers_looks_by_itself_after_a_moment(pool):
    seen = []
    for index in range(200):
        pool.push((Quick(seen), index))
        wait_until(lambda: len(seen) > index)  # noqa: B023


def test_a_pool_with_a_worker_that_lingers_can_be_held_and_closed(lingering):
    lingering.hold(True)
    lingering.push((Quick(lingering.seen), 2))
    lingering.wait_for_run(lambda: None)
    assert len(lingering.ready) == 1
    lingering.hold(False)
    wait_until(lambda: len(lingering.seen) == 2 and lingering.lingering)
    for worker in lingering.close():
        worker.join(PATIENCE)
        assert not worker.is_alive()
