"""A scheduler that is served: with its lock, its socket, and one loop that watches over both.

The daemon runs the loop in its main thread, a program that embeds Blaze in a thread of
its own. Wishes come from other threads and from signal handlers; they are noted, the bell
is rung, and the loop obeys (RELIABILITY P8, R54, R57).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

from ..core.blaze import Blaze
from ..core.ground.errors import BlazeError, Refused, StateError
from ..core.ground.own_log import OwnLog
from ..core.seq import BlazeSequence
from .bell import Bell
from .owner import OwnerLock
from .recorded import record_definitions
from .server import Server
from .service import DRAIN, HARD, SOFT, Desk

#: Seconds between two looks whether the socket is still there.
CHECK_EVERY = 1.0

log = OwnLog("daemon")

#: Loads the definition again; what is served from then on.
Reload = Callable[[], BlazeSequence]


class ServedScheduler:
    """A scheduler, the lock of its state directory, and the socket at which it is asked.

    :param lock: held; released when the scheduler has stopped.
    :param reload: loads the definition again; None: there is none to load.
    :param settings: what it was started with, as JSON-able data.
    """

    def __init__(
        self,
        scheduler: Blaze,
        lock: OwnerLock,
        reload: Optional[Reload] = None,
        settings: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self.scheduler = scheduler
        self.settings = settings
        #: When everything has stopped and the lock is given back.
        self.ended = threading.Event()
        self._lock = lock
        self._load = reload
        self._bell = Bell()
        self._server: Optional[Server] = None
        self._how: Optional[str] = None
        self._reload_wanted = False
        #: Protects the definition while it is loaded; held over the user's code, and over nothing else.
        self._loading = threading.Lock()
        self._socket_fault: Optional[str] = None

    @property
    def state_dir(self) -> Path:
        """Where its state is."""
        return self.scheduler.state_dir

    def serve(self) -> None:
        """Open the state, write down what is served, and answer from now on. Raises :class:`StateError`."""
        _ = self.scheduler.state
        self._lock.introduce(self.scheduler.instance_id)
        self._record()
        about = {"instance": self.scheduler.instance_id}
        self._server = Server(self.state_dir, Desk(self.scheduler, self).methods(), about=about).start()

    def _record(self) -> None:
        try:
            record_definitions(self.state_dir, self.scheduler.sequences)
        except StateError as error:
            log.warning("submissions without a daemon will be checked against older definitions: %s", error)

    # ------------------------------------------------------------------ wishes

    @property
    def stopping(self) -> Optional[str]:
        """How it is about to stop; None if it is not."""
        return self._how

    def stop(self, how: str) -> None:
        """Stop soon: the loop does it. Who drains may still be told to stop at once."""
        if self._how is None or self._how == DRAIN:
            self._how = how
        self._bell.ring()

    def stop_softly(self) -> None:
        """For signal handlers."""
        self.stop(SOFT)

    def want_reload(self) -> None:
        """For signal handlers: load the definition again soon."""
        self._reload_wanted = True
        self._bell.ring()

    def reload(self) -> Dict[str, Any]:
        """Load the definition again, and go on with what it has; what changed. If it fails, nothing does."""
        if self._load is None:
            raise Refused("this scheduler is embedded in a program, which has no definition to load again")
        with self._loading:
            before = set(self.scheduler.sequences)
            found = self._load()
            self.scheduler.redefine(found)
            self._record()
        after = set(found)
        log.info("the definition was loaded again: %d sequences", len(after))
        return {"sequences": sorted(after), "added": sorted(after - before), "removed": sorted(before - after)}

    # ------------------------------------------------------------------ the loop

    def watch(self) -> None:
        """Watch over the socket and obey wishes; returns when everything has stopped."""
        try:
            while self._how is None:
                self._bell.wait(CHECK_EVERY)
                self._check_socket()
                self._reload_if_wanted()
            if self._how == DRAIN:
                self._drain()
        finally:
            self._end()

    def _check_socket(self) -> None:
        if self._server is None:
            return
        try:
            self._server.check()
            self._socket_fault = None
        except (StateError, OSError) as error:
            if str(error) != self._socket_fault:  # once, not every second
                log.error("the socket can't be made anew: %s", error)
            self._socket_fault = str(error)

    def _reload_if_wanted(self) -> None:
        if not self._reload_wanted:
            return
        self._reload_wanted = False
        try:
            self.reload()
        except BlazeError as error:
            log.error("the definition can't be loaded, the old one goes on: %s", error)
        except Exception:
            log.exception("the definition can't be loaded, the old one goes on")

    def _drain(self) -> None:
        log.info("%d runs are waited for", len(self.scheduler.runs))

        def give_up() -> bool:
            self._bell.wait(0.05)
            self._check_socket()
            return self._how != DRAIN

        self.scheduler.drain(give_up)

    def _end(self) -> None:
        """Stop everything, in the reverse order of the start."""
        how = self._how or SOFT
        log.info("stopping %s (%s)", self.scheduler.instance_id, how)
        try:
            if self._server is not None:
                self._server.close()
            self.scheduler.stop(shutdown=how == HARD)
        finally:
            self._lock.release()
            self._bell.close()
            self.ended.set()
