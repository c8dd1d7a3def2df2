"""Rows about the daemon's socket: a round trip against a JSON echo on a plain server of the standard library."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

from blaze.daemon.address import reachable
from blaze.daemon.client import Client

from .bench import ROOT, Bench
from .daemon_servers import SOCKET
from .measure import Repetition, Timed, require, stopwatch
from .report import Goal, Row, row_of

#: As large as the status of a few sequences.
STATUS: Dict[str, Any] = {
    "name": "etl-x1y2z3",
    "jobs": [
        {"seq_id": f"sequence-{number}", "last_run": 1_700_000_000.25, "next_run": None, "status": "COMPLETED"}
        for number in range(5)
    ],
}
GOAL = Goal(ratio=2.0)

#: Makes some calls one after the other on a socket below the directory, and checks the answers.
Caller = Callable[[Path, int], None]


def kept_row(bench: Bench) -> List[Row]:
    """One client that keeps its connection."""
    what = f"{bench.sizes.calls} calls on one connection; bare: a JSON echo on socketserver.ThreadingUnixStreamServer"
    return _rows(bench, "socket", what, bench.sizes.calls, _bare_kept, _blaze_kept)


def anew_row(bench: Bench) -> List[Row]:
    """One client that connects for each call."""
    calls = bench.sizes.calls // 5
    what = f"{calls} calls, each on a connection of its own"
    return _rows(bench, "socket-anew", what, calls, partial(anew, _bare_kept), partial(anew, _blaze_kept))


def many_row(bench: Bench) -> List[Row]:
    """Many clients at once, each with its connection."""
    clients = bench.sizes.clients
    what = f"{bench.sizes.calls} calls of {clients} clients at once, each on one connection"
    bare, blaze = partial(at_once, clients, _bare_kept), partial(at_once, clients, _blaze_kept)
    return _rows(bench, "socket-many", what, bench.sizes.calls, bare, blaze)


def _rows(bench: Bench, key: str, what: str, calls: int, bare: Caller, blaze: Caller) -> List[Row]:
    with ExitStack() as stack:
        directories = [stack.enter_context(served(bench, kind)) for kind in ("bare", "blaze")]
        pairs = bench.pairs(paired(bare, directories[0], calls), paired(blaze, directories[1], calls))
    return [row_of(key, what, pairs, 1e6 / calls, "µs/call", GOAL)]


@contextmanager
def served(bench: Bench, kind: str) -> Iterator[Path]:
    """One of the two servers, ``bare`` or ``blaze``; the directory of its socket."""
    with bench.fresh() as directory:
        program = [sys.executable, "-m", "benchmarks.daemon_servers", kind, str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        with subprocess.Popen(program, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
            require(process.stdout is not None and process.stdout.readline() == "ready\n", f"{kind} does not serve")
            yield directory


def paired(caller: Caller, directory: Path, calls: int) -> Repetition:
    """A repetition of that many calls."""

    def repetition() -> Timed:
        stop = stopwatch()
        caller(directory, calls)
        return stop()

    return repetition


def at_once(clients: int, call: Caller, directory: Path, calls: int) -> None:
    """That many clients share the calls, each in a thread of its own."""
    failed: List[BaseException] = []

    def client() -> None:
        try:
            call(directory, calls // clients)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not failed, f"{len(failed)} clients failed, the first with {failed[:1]}")


def _bare_kept(directory: Path, calls: int) -> None:
    bare_kept(STATUS, directory, calls)


def bare_kept(value: Any, directory: Path, calls: int) -> None:
    """Let the echo repeat a value, on one connection."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": {"value": value}}
    with _connected(directory) as sock, sock.makefile("rb") as answers:
        for _ in range(calls):
            sock.sendall(json.dumps(request).encode() + b"\n")
            _require_answer(json.loads(answers.readline())["params"]["value"], value)


def _blaze_kept(directory: Path, calls: int) -> None:
    with Client(directory) as client:
        for _ in range(calls):
            _require_answer(client.call("echo", value=STATUS), STATUS)


def anew(call: Caller, directory: Path, calls: int) -> None:
    """Each call on a connection of its own."""
    for _ in range(calls):
        call(directory, 1)


def _connected(directory: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(str(directory / SOCKET)) as path:
        sock.connect(path)
    return sock


def _require_answer(answer: Any, value: Any) -> None:
    require(answer == value, "the answer is another one")
