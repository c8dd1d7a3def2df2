"""The workers: threads that take ready steps and carry their runs forward.

There is no coordinator. A worker that ends a step continues with one that became
ready by it and queues the others here. Threads are made when there is work and no
idle worker, up to the pool's size; an idle worker waits on a lock of its own and
costs nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, List, Optional, Sequence, Set, Tuple, TypeVar

from ..ground.own_log import OwnLog

log = OwnLog("engine")

if TYPE_CHECKING:
    from .attempt import Attempt

#: A part of some work: an object with ``perform(index, worker)``, which returns the
#: next item for the same thread or None, and ``is_quick(index)``; and the index to give it. A negative index is
#: bookkeeping, which starts no block and is done even while the pool is held.
Item = Tuple[Any, int]

T = TypeVar("T")

#: Quick items that one worker makes in the time that it takes to wake another.
QUICK_FEW = 16
#: Quick items at once that are worth a second worker.
QUICK_MANY = 100
#: Seconds after which a worker that has run out of work looks once more, before it only waits to be woken.
LINGER = 0.001


class Worker(threading.Thread):
    """One thread of the pool. A daemon: a stuck block never keeps the interpreter from exiting."""

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(name=f"blaze-worker-{number}", daemon=True)
        self.pool = pool
        #: The attempt that is being made, for the timekeeper to watch.
        self.attempt: Optional[Attempt] = None
        #: An exception was raised into this thread: it ends as soon as it leaves the block.
        self.condemned = False
        #: It has left its last block and the pool for good. Under the pool's lock.
        self.gone = False
        #: Closed while the worker is idle; opened to wake it.
        self.gate = threading.Lock()
        self.gate.acquire()
        #: Asleep, or about to be; nobody may count on it to look at the queue.
        self.parked = False

    def run(self) -> None:
        """Work until the pool is closed."""
        pool = self.pool
        take = pool.ready.popleft
        try:
            while True:
                if len(pool.workers) > pool.size and pool.retires(self):
                    return
                item: Optional[Item] = None
                try:
                    if pool.outcomes:
                        item = pool.outcomes.popleft()
                    elif not pool.held:
                        item = take()
                except IndexError:
                    pass  # another worker was quicker
                if item is None:
                    if not pool.park(self):
                        return
                    continue
                try:
                    item = item[0].perform(item[1], self)
                    while item is not None:
                        if pool.held and item[1] >= 0:
                            pool.ready.appendleft(item)
                            break
                        item = item[0].perform(item[1], self)
                except Exception as error:
                    # A fault of Blaze itself, or of the machine: the run ends, the worker goes on.
                    self.attempt = None
                    if item is not None:
                        item[0].broken(error)
                    log.exception("the engine failed on a run")
                if self.condemned:
                    return
        except BaseException:
            # The exception that was raised into a condemned thread may arrive after the block has returned.
            if not self.condemned:
                raise
        finally:
            pool.left(self)


class Pool:
    """The ready queue and its workers.

    ``ready`` and ``idle`` are deques, whose single operations are atomic. Lock order:
    ``_lock`` is taken last and held over bookkeeping only.
    """

    def __init__(self, size: int, ready: Optional[Deque[Item]] = None) -> None:
        self.size = size
        self.ready: Deque[Item] = deque() if ready is None else ready
        #: Attempts that ended elsewhere and are to be recorded; taken first, and also while held.
        self.outcomes: Deque[Item] = deque()
        #: Nothing further starts while this is set.
        self.held = False
        #: A worker is going to look at the queue within LINGER, though nobody wakes it.
        self.lingering = False
        #: An entry for each thread that waits for a run: as long as there is one, no quick work is left for later.
        self.awaited: Deque[object] = deque()
        self.closed = False
        self.workers: Set[Worker] = set()
        #: Threads that did not leave their block when told to.
        self.leaked: List[Worker] = []
        self._idle: Deque[Worker] = deque()
        self._lock = threading.Lock()
        self._numbers = 0

    def push(self, item: Item) -> None:
        """Queue one item and see that somebody takes it; bookkeeping goes before blocks."""
        if item[1] < 0:
            self.push_outcome(item)
        else:
            self.ready.append(item)
            self._wake_for((item,))

    def extend(self, items: Sequence[Item]) -> None:
        """Queue several."""
        self.ready.extend(items)
        self._wake_for(items)

    def _hurry(self) -> None:
        """Somebody waits for what may have been left for later."""
        if self.lingering and self.ready:
            self.lingering = False
            self._wake()

    def _wake_for(self, items: Sequence[Item]) -> None:
        """Wake as many workers as these items keep busy.

        Waking one takes longer than a quick item, and then it competes for the interpreter; so quick
        ones are left to whoever is at work already, or lingers: two threads that each want the
        interpreter every few microseconds take twice as long as one after the other.
        """
        slow = 0
        for work, index in items[: self.size]:
            if not work.is_quick(index):
                slow += 1
        quick = len(items) - slow
        # Of very many, one worker makes some while another commits.
        wanted = slow + (quick > QUICK_MANY)
        if quick and wanted < self.size and not self._somebody_comes():
            wanted += 1
        for _ in range(min(wanted, self.size)):
            if not self._wake():
                break

    def _somebody_comes(self) -> bool:
        """Whether a worker will look for its next item in next to no time, or soon enough for what nobody waits for."""
        # The queue has been filled by now: a worker that ceases to linger looks at it after it has said so.
        if self.lingering and not self.awaited:
            return True
        for worker in list(self.workers):
            if not worker.parked:
                attempt = worker.attempt
                if attempt is None or attempt.place.quick:
                    return True
        return False

    def call_help(self) -> None:
        """Somebody else had better look at the queue: the calling thread is about to be busy for a while."""
        if self._idle or len(self.workers) < self.size:
            self._wake()

    def push_outcome(self, item: Item) -> None:
        """Queue what records the end of an attempt."""
        self.outcomes.append(item)
        self._wake()

    def take_outcome(self) -> Optional[Item]:
        """An outcome that no worker has taken."""
        try:
            return self.outcomes.popleft()
        except IndexError:
            return None

    def free_bookkeeping(self) -> None:
        """While held: let the ends of runs that were queued before be written all the same."""
        for _ in range(len(self.ready)):
            try:
                item = self.ready.popleft()
            except IndexError:
                return
            if item[1] < 0:
                self.push_outcome(item)
            else:
                self.ready.append(item)

    def _wake(self) -> bool:
        if self.held and not self.outcomes:
            return False
        try:
            worker = self._idle.pop()
        except IndexError:
            return self._spawn()
        worker.parked = False
        worker.gate.release()
        return True

    def _spawn(self) -> bool:
        with self._lock:
            if self.closed or len(self.workers) >= self.size:
                return False
            self._numbers += 1
            worker = Worker(self, self._numbers)
            # Seen before it takes anything, and started under the lock: whoever closes the pool joins every worker.
            self.workers.add(worker)
            try:
                worker.start()
            except BaseException:
                self.workers.discard(worker)
                raise
        return True

    def park(self, worker: Worker) -> bool:
        """Wait for work; False when the worker has to end."""
        if self.closed:
            return False
        worker.parked = True
        self._idle.append(worker)
        # Whoever pushed before seeing us idle has not woken us: look again before waiting.
        if self._has_work():
            self._unpark(worker)
        elif self.lingering or not self._linger(worker):
            worker.gate.acquire()
        return not self.closed

    def _linger(self, worker: Worker) -> bool:
        """Wait a moment for work; whether there is some, for which the worker was woken or not."""
        self.lingering = True
        try:
            woken = worker.gate.acquire(timeout=LINGER)
        finally:
            self.lingering = False
        if not woken and self._has_work():
            self._unpark(worker)
            return True
        return woken

    def _has_work(self) -> bool:
        return bool((self.ready and not self.held) or self.outcomes or self.closed)

    def _unpark(self, worker: Worker) -> None:
        """A parked worker goes to work by itself."""
        try:
            self._idle.remove(worker)
        except ValueError:
            worker.gate.acquire()  # somebody is waking us: take the wake with us
        worker.parked = False

    def retires(self, worker: Worker) -> bool:
        """Whether this worker is one too many, since a place that was lent was given back."""
        with self._lock:
            if len(self.workers) <= self.size:
                return False
            self.workers.discard(worker)
            return True

    def left(self, worker: Worker) -> None:
        """A worker thread has ended."""
        with self._lock:
            worker.gone = True
            self.workers.discard(worker)
            if worker in self.leaked:
                self.leaked.remove(worker)

    def condemn(self, worker: Worker) -> None:
        """Take a worker out whose thread gets an exception raised into it; a new one may take its place."""
        worker.condemned = True
        with self._lock:
            self.workers.discard(worker)
        if self.ready:
            self._wake()

    def abandon(self, worker: Worker) -> bool:
        """Count a condemned worker for as long as it is in its block; whether it still is."""
        with self._lock:
            if not worker.gone:  # asked of the worker: its thread lives on for a while after it has left
                self.leaked.append(worker)
            return not worker.gone

    def wait_for_run(self, wait: Callable[[], T]) -> T:
        """What ``wait`` returns, which waits for the end of a run.

        A block that waits for another run holds a worker which that run may need: it is lent.
        """
        self.awaited.append(wait)
        try:
            self._hurry()
            thread = threading.current_thread()
            if not isinstance(thread, Worker) or thread.pool is not self:
                return wait()
            self._lend(1)
            try:
                return wait()
            finally:
                self._lend(-1)
        finally:
            self.awaited.pop()

    def _lend(self, places: int) -> None:
        """Change the capacity."""
        with self._lock:
            self.size += places
        if places > 0:
            if self.ready:
                self._wake()
            return
        try:
            self._idle.pop().gate.release()  # to see that it is one too many
        except IndexError:
            return

    def hold(self, held: bool) -> None:
        """Stop starting steps, or start again."""
        self.held = held
        if not held:
            for _ in range(min(len(self.ready), self.size)):
                if not self._wake():
                    break

    def rests(self, blocks: bool = True) -> bool:
        """Whether nobody has anything in hand, or could have, that needs no time to pass.

        Without ``blocks``, workers that are inside a block are left out of account.
        """
        # Asked first: an item that a worker takes meanwhile is seen in that worker.
        queued = bool(self.ready) and not self.held
        waiting = 0
        for worker in list(self.workers):
            if worker.parked:
                continue
            attempt = worker.attempt
            if attempt is None or (blocks and not attempt.waits_for_time):
                return False
            waiting += 1
        return not queued or waiting >= self.size

    def busy(self) -> List[Worker]:
        """The workers that are inside a block."""
        with self._lock:
            return [worker for worker in self.workers if worker.attempt is not None]

    def close(self) -> List[Worker]:
        """Let every worker end that is not inside a block; the threads to join."""
        with self._lock:
            self.closed = True
            workers = list(self.workers)
        while True:
            try:
                self._idle.pop().gate.release()
            except IndexError:
                return workers
