"""The daemon's server and its clients, over real sockets: hostile bytes, slow and idle clients, other users, and forks.

What a client does costs its own connection at most (RELIABILITY R49-R53, P1-P3, P9).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import blaze
from blaze import BlazeError, NotFound, StateError, ValidationError
from blaze.core.ground.errors import (
    DaemonBusy,
    DaemonError,
    Fault,
    NoAnswer,
    NoDaemon,
    Refused,
    RunSuspended,
    UnlikeVersion,
)
from blaze.daemon import address, client, connection, protocol
from blaze.daemon.client import Client
from blaze.daemon.methods import FLAG, TEXT, WHOLE, Method, Parameter
from blaze.daemon.protocol import Code, encode_request
from blaze.daemon.server import Limits, Server
from tests.integration.doomed import Child, in_child
from tests.integration.workbench import PATIENCE, wait, wait_until
from tests.unit.random_frames import random_frame

pytestmark = pytest.mark.skipif(not address.HAS_UNIX_SOCKETS, reason="needs Unix sockets")

#: Seconds for what should happen within one, on a machine that has other things to do.
SOON = 3.0


class Desk:
    """Methods for tests, and what they saw."""

    def __init__(self):
        self.calls = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.streams_closed = threading.Semaphore(0)
        self.methods = {
            "status": Method(self.status, {"verbose": Parameter(FLAG, required=False)}),
            "echo": Method(lambda text: text, {"text": Parameter(TEXT)}),
            "letters": Method(lambda number: "x" * number, {"number": Parameter(WHOLE)}),
            "hold": Method(self.hold),
            "fail": Method(self.fail, {"kind": Parameter(TEXT)}),
            "count": Method(self.count, {"to": Parameter(WHOLE)}, stream=True),
            "follow": Method(self.follow, stream=True),
            "pour": Method(self.pour, stream=True),
            "break_off": Method(self.break_off, stream=True),
        }

    def status(self, verbose=False):
        self.calls.append("status")
        return {"verbose": verbose}

    def hold(self):
        self.calls.append("hold")
        self.entered.set()
        wait(self.go)
        return "held"

    def fail(self, kind):
        raise {
            "not found": NotFound("no run 'x'"),
            "invalid": ValidationError([Fault("a", "b"), Fault("c", "d")], "s"),
            "bug": KeyError("oops"),
            "exit": SystemExit(3),
            "time": TimeoutError("after 3 s"),
            "io": BrokenPipeError("of the method's own"),
        }[kind]

    def count(self, to):
        yield from range(to)

    def follow(self):
        self.entered.set()
        try:
            while True:
                self.go.wait(0.005)
                yield None
        finally:
            self.streams_closed.release()

    def pour(self):
        try:
            while True:
                yield "x" * 100_000
        finally:
            self.streams_closed.release()

    def break_off(self):
        yield 1
        raise NotFound("gone meanwhile")


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.go.set()


@pytest.fixture
def serve(desk, tmp_path):
    """Starts servers on ``tmp_path/state``; all are closed, and have to leave no thread."""
    with contextlib.ExitStack() as stack:

        def start(**limits):
            settings = {name: limits.pop(name) for name in ("tcp", "about") if name in limits}
            server = Server(tmp_path / "state", desk.methods, limits=Limits(**limits), **settings).start()
            stack.callback(server.close)
            stack.callback(desk.go.set)
            return server

        yield start
    wait_until(lambda: not server_threads(), "the end of all threads")


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def daemon(server):
    with Client(server.state_dir, timeout=PATIENCE) as found:
        yield found


def server_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("blaze-daemon")]


class Raw:
    """A connection without manners."""

    def __init__(self, server, sent=b""):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(server.state_dir / "daemon.sock"))  # waits if too many others do
        self.sock.settimeout(PATIENCE)
        self.file = self.sock.makefile("rb")
        with contextlib.suppress(BrokenPipeError):  # turned away already; the answer says why
            self.send(sent)

    def send(self, data):
        self.sock.sendall(data)

    def answer(self):
        """The next message, or None at the end."""
        try:
            line = self.file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def is_open(self):
        self.sock.setblocking(False)
        try:
            return self.sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        finally:
            self.sock.settimeout(PATIENCE)

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def assert_serves(server, seconds=SOON):
    """A new client gets an answer, soon."""
    with Client(server.state_dir, timeout=seconds) as fresh:
        assert fresh.call("status") == {"verbose": False}


def open_descriptors():
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def wait_until_idle(server):
    """A client has its answer a moment before the server's thread has done with it."""
    connections = list(server._places._threads)
    wait_until(lambda: all(one.room_to_gain(time.monotonic()) for one in connections))


STATUS = encode_request(1, "status", {})

# ---------------------------------------------------------------------- calls


@pytest.mark.parametrize("tcp", [False, True])
def test_a_call_gets_its_answer_and_a_stream_its_items(serve, tcp):
    server = serve(tcp=tcp, about={"name": "etl-x1"})
    with Client(server.state_dir) as daemon:
        assert daemon.call("status", verbose=True) == {"verbose": True}
        assert daemon.daemon == {"protocol": 1, "blaze": blaze.__version__, "pid": os.getpid(), "name": "etl-x1"}
        assert list(daemon.stream("count", to=1000)) == list(range(1000))
        assert list(daemon.stream("count", to=0)) == []
        assert daemon.call("letters", number=3_000_000) == "x" * 3_000_000
        assert daemon.call("echo", text="é\n" * 500_000) == "é\n" * 500_000


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("not found", NotFound("no run 'x'")),
        ("invalid", ValidationError([Fault("a", "b"), Fault("c", "d")], "s")),
        ("time", TimeoutError("after 3 s")),
        ("bug", DaemonError("the daemon failed at 'fail': KeyError: 'oops'; its log has the traceback")),
        ("exit", DaemonError("the daemon failed at 'fail': SystemExit: 3; its log has the traceback")),
    ],
)
def test_what_a_method_raises_is_raised_here_and_costs_no_connection(daemon, server, caplog, kind, expected):
    """R52."""
    with pytest.raises(type(expected)) as raised:
        daemon.call("fail", kind=kind)
    assert type(raised.value) is type(expected) and str(raised.value) == str(expected)
    assert daemon.call("status") == {"verbose": False}
    assert server.connections == 1
    assert ("the method fail failed" in caplog.text) == (type(expected) is DaemonError)


def test_an_error_of_the_system_that_a_method_raises_is_not_taken_for_the_connections(daemon, caplog):
    with pytest.raises(DaemonError, match="BrokenPipeError"):
        daemon.call("fail", kind="io")
    assert daemon.call("status")


def test_wrong_methods_and_parameters_are_refused_with_near_names(daemon, desk):
    """R49: an explicit table; nothing is looked up by a name that came in."""
    with pytest.raises(DaemonError, match="no method 'statu'; did you mean 'status'"):
        daemon.call("statu")
    for name in ("__class__", "methods", "status.__init__", "hello "):
        with pytest.raises(DaemonError, match="no method"):
            daemon.call(name)
    with pytest.raises(ValidationError) as refused:
        daemon.call("status", verbos=True, verbose="yes")
    assert refused.value.errors == [
        Fault("verbos", "there is no such parameter; did you mean 'verbose'?"),
        Fault("verbose", "true or false, not a text"),
    ]
    with pytest.raises(ValidationError):
        list(daemon.stream("count", to="x"))
    assert desk.calls == []


def test_a_stream_that_fails_half_way_gives_what_it_had_and_then_the_error(daemon):
    items = daemon.stream("break_off")
    assert next(items) == 1
    with pytest.raises(NotFound, match="gone meanwhile"):
        next(items)


def test_an_answer_that_can_not_be_sent_is_an_error_and_costs_no_connection(daemon, server, desk, caplog):
    with pytest.raises(DaemonError, match="the answer to 'letters' can't be sent: 16,777"):
        daemon.call("letters", number=protocol.MAX_FRAME)
    assert daemon.call("status") and server.connections == 1


def test_a_request_that_is_too_long_is_not_sent(daemon):
    with pytest.raises(ValidationError, match="can't be sent"):
        daemon.call("echo", text="x" * protocol.MAX_FRAME)
    with pytest.raises(ValidationError, match="can't be sent"):
        daemon.call("echo", text=object())


def test_a_request_without_an_id_is_done_and_not_answered(server, desk):
    with Raw(
        server, encode_request(None, "status", {}) + encode_request(None, "fail", {"kind": "bug"}) + STATUS
    ) as raw:
        assert raw.answer()["id"] == 1
    assert desk.calls == ["status", "status"]


def test_requests_sent_together_are_answered_in_their_order(server):
    lines = b"".join(encode_request(number, "echo", {"text": str(number)}) for number in range(500))
    with Raw(server, lines) as raw:
        assert [raw.answer()["result"] for _ in range(500)] == [str(number) for number in range(500)]


def test_a_request_that_comes_byte_by_byte_is_a_request(server):
    with Raw(server) as raw:
        for byte in STATUS:
            raw.send(bytes([byte]))
        assert raw.answer()["result"] == {"verbose": False}


def test_many_threads_share_one_client(daemon, server):
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(daemon.call("echo", text=str(n)))) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(found, key=int) == [str(number) for number in range(40)]
    wait_until(lambda: server.connections <= client.KEPT, "the end of what is not kept")


# ---------------------------------------------------------------------- hostile bytes

GARBAGE = {
    "random bytes": bytes(range(255, 10, -1)) + b"\n",
    "http": b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.\n",
    "bad utf-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}\n',
    "nesting": b"[" * 100_000 + b"\n",
    "a huge number": b"9" * 100_000 + b"\n",
    "nothing": b"\n",
    "nul": b"\0" * 1000 + b"\n",
    "yaml": b"!!python/object/apply:os.system ['true']\n",
}


@pytest.mark.parametrize("name", sorted(GARBAGE))
def test_garbage_is_answered_and_costs_its_own_connection(server, daemon, desk, name):
    """R49, R52, P1, P9: nothing is executed; everybody else is served on."""
    daemon.call("status")
    with Raw(server, GARBAGE[name] + STATUS) as raw:
        assert raw.answer()["error"]["code"] == Code.PARSE_ERROR
        assert raw.answer() is None
    assert daemon.call("status") and desk.calls == ["status", "status"]


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b"7",
        b"[" + STATUS[:-1] + b"]",
        STATUS[:-1].replace(b"2.0", b"1.0"),
        encode_request(1, "no such", {})[:-1],
        encode_request(1, "status", {"verbose": 1})[:-1],
        b'{"jsonrpc":"2.0","id":1,"method":"status","params":[true]}',
    ],
)
def test_json_that_is_no_good_request_is_answered_and_costs_nothing(server, line):
    """R52."""
    with Raw(server, line + b"\n" + STATUS) as raw:
        assert raw.answer()["error"]["code"] in (Code.INVALID_REQUEST, Code.METHOD_NOT_FOUND, Code.INVALID_PARAMS)
        assert raw.answer()["result"] == {"verbose": False}


def test_jobs_run_on_while_others_send_noise(serve, bench, tmp_path):
    """R52: the scheduler beside it completes every run, and status is answered all the time."""
    bench.step("one", lambda: 1)
    bench.step("two", lambda one: one + 1, "one")
    bench.sequence()
    server = serve(frame=0.2, idle=0.5, patience=0.05, settled=0.01, connections=16)

    def send_noise(seed):
        chance = random.Random(seed)
        while True:
            with contextlib.suppress(OSError), Raw(server) as raw:
                for _ in range(chance.randint(1, 20)):
                    raw.send(random_frame(chance) + chance.choice([b"\n", b""]))

    with contextlib.ExitStack() as stack:
        for seed in range(4):
            stack.enter_context(Child(send_noise, seed))
        with blaze.Blaze(sequences=bench.sequences, state_dir=tmp_path / "runs") as scheduler:
            for _ in range(5):
                assert scheduler.run("seq", timeout=PATIENCE).raise_for_status().outputs["two"] == 2
                assert_serves(server, PATIENCE)
    assert_serves(server)


@pytest.mark.parametrize("part", [1, len(STATUS) // 2, len(STATUS) - 1])
def test_a_request_that_is_cut_off_is_answered_and_not_done(server, desk, part):
    """R52: what has no newline is no request, though it may look like one."""
    with Raw(server, STATUS[:part]) as raw:
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.answer()["error"]["code"] == Code.PARSE_ERROR
        assert raw.answer() is None
    with Raw(server, STATUS[:part]):
        pass
    assert_serves(server)
    assert desk.calls == ["status"]


def test_a_client_that_only_listens_any_more_gets_its_answer(server):
    with Raw(server, STATUS) as raw:
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.answer()["result"] == {"verbose": False}
        assert raw.answer() is None


def test_a_line_without_end_is_answered_before_it_fills_the_memory(server):
    """P3, R52."""
    with Raw(server) as raw:
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 4 * protocol.MAX_FRAME:
                raw.send(b"x" * 65536)
                sent += 65536
        assert protocol.MAX_FRAME <= sent + 65536 < 1.2 * protocol.MAX_FRAME
        assert raw.answer()["error"]["code"] == Code.PARSE_ERROR
    assert_serves(server)


def test_a_client_that_leaves_before_its_answer_costs_nobody_anything(serve, desk):
    server = serve()
    with Raw(server, encode_request(1, "hold", {})):
        wait(desk.entered)
    desk.go.set()
    with Raw(server, encode_request(1, "letters", {"number": 5_000_000})):
        pass
    wait_until(lambda: server.connections == 0)
    assert_serves(server)


def test_what_clients_do_wrong_fills_no_log(server, caplog):
    """R52: rate-limited; and what they send can not forge lines of it."""
    for _ in range(30):
        with Raw(server, b'{"jsonrpc":"2.0","id":1,"method":"status","params":{},"x\\ny\\u001b[31m":1}\n') as raw:
            raw.answer()
    assert 0 < len(caplog.records) <= 12
    assert not any(set("\n\x1b") & set(record.getMessage()) for record in caplog.records)


# ---------------------------------------------------------------------- slow, idle and many clients


def test_a_frame_has_a_deadline_and_not_each_of_its_bytes(serve):
    """P3, R51: slowloris."""
    server = serve(frame=0.1)
    with Raw(server) as raw:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < PATIENCE:
                raw.send(b"x")
                if not raw.is_open() or raw.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    break
                time.sleep(0.01)
        assert "not finished within 0.1 s" in raw.answer()["error"]["message"]
        assert raw.answer() is None
        assert time.monotonic() - begun < SOON


def test_an_idle_connection_is_closed_with_a_goodbye(serve):
    """R51."""
    with Raw(serve(idle=0.05), STATUS) as raw:
        assert raw.answer()["result"]
        assert raw.answer() == {"jsonrpc": "2.0", "method": "goodbye", "params": {"reason": "idle for too long"}}
        assert raw.answer() is None


def test_a_client_does_not_notice_that_its_connection_was_closed_meanwhile(serve, desk):
    server = serve(idle=0.05)
    with Client(server.state_dir) as daemon:
        for _ in range(3):
            assert daemon.call("status")
            wait_until(lambda: server.connections == 0)
    assert desk.calls == ["status"] * 3


def test_a_slow_reader_is_cut_off(serve, desk):
    """R51, P3: a write has a deadline, too."""
    server = serve(write=0.1)
    with Raw(server, encode_request(1, "pour", {})):
        assert desk.streams_closed.acquire(timeout=PATIENCE)
        wait_until(lambda: server.connections == 0)


def test_a_thousand_idle_connections_keep_nobody_out(serve):
    """R51, P3: the oldest of the idle ones make room; threads and descriptors are bounded."""
    server = serve(connections=16, settled=0.0)
    assert_serves(server)
    descriptors = open_descriptors()
    with contextlib.ExitStack() as stack, Client(server.state_dir) as daemon:
        daemon.call("status")
        for number in range(1000):
            stack.enter_context(Raw(server, STATUS if number % 2 else b""))
            if not number % 100:
                assert len(server_threads()) <= 18 and server.connections <= 16
                begun = time.monotonic()
                assert daemon.call("status")
                assert time.monotonic() - begun < SOON
        assert_serves(server)
    wait_until(lambda: server.connections == 0)
    wait_until(lambda: open_descriptors() <= descriptors)


def test_the_connection_that_was_idle_for_longest_makes_room(serve):
    """R51."""
    server = serve(connections=3, settled=0.0)
    with Raw(server) as first, Raw(server) as second, Raw(server) as third:
        for raw in (first, second, third):
            raw.send(STATUS)
            raw.answer()
            wait_until_idle(server)
        first.send(STATUS)
        first.answer()
        wait_until_idle(server)
        with Raw(server, STATUS) as fourth:
            assert fourth.answer()["result"]
            assert second.answer()["params"] == {"reason": "others need the place"}
            assert second.answer() is None
            assert first.is_open() and third.is_open()


@pytest.mark.parametrize("sent", [b"{", encode_request(1, "pour", {})], ids=["half a frame", "a stream not read"])
def test_a_thousand_slow_clients_keep_nobody_out(serve, sent):
    """R51: a status takes a second at most."""
    server = serve(connections=8, settled=0.0, patience=0.05)
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(Raw(server, sent))
        assert_serves(server)
        assert server.connections <= 8


def test_when_all_are_at_work_a_newcomer_is_told_so_and_tries_again(serve, desk):
    """R51: answered "busy" and closed; a client tries again until its time is over."""
    server = serve(connections=2)
    with Raw(server, encode_request(1, "hold", {})) as one, Raw(server, encode_request(1, "hold", {})) as other:
        wait_until(lambda: len(desk.calls) == 2)
        with Raw(server, STATUS) as raw:
            assert raw.answer()["error"]["code"] == Code.BUSY
            assert raw.answer() is None
        with Client(server.state_dir, timeout=0.1) as daemon, pytest.raises(DaemonBusy, match="as many connections"):
            daemon.call("status")
        with Client(server.state_dir) as daemon:
            threading.Timer(0.05, desk.go.set).start()
            assert daemon.call("status")
        assert one.answer()["result"] == other.answer()["result"] == "held"


def test_few_long_requests_are_received_at_a_time(serve):
    """P3: the memory that clients can take is bounded."""
    server = serve(large_frames=1, frame=0.1)
    long = encode_request(1, "echo", {"text": "x" * 1_000_000})
    assert server._service.large_frames.acquire(blocking=False)  # as one that is at work does
    with Raw(server) as raw:
        with contextlib.suppress(BrokenPipeError):
            raw.send(long)
        assert raw.answer()["error"]["code"] == Code.BUSY
        assert raw.answer() is None
    server._service.large_frames.release()
    with Client(server.state_dir) as daemon:
        for _ in range(3):
            assert len(daemon.call("echo", text="x" * 1_000_000)) == 1_000_000


def test_descriptors_that_run_out_cost_only_those_who_come_too_late(tmp_path):
    """R51: the daemon lives on, and serves again when there are some."""
    program = f"""
        import resource, socket, sys, threading, contextlib
        from blaze.daemon.client import Client
        from blaze.daemon.methods import Method
        from blaze.daemon.server import Server
        directory = {str(tmp_path / "state")!r}
        with Server(directory, {{"status": Method(lambda: "fine")}}):
            assert Client(directory).call("status") == "fine"
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(OSError):
                    while True:
                        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                        sock.connect(directory + "/daemon.sock")
                assert any(thread.name == "blaze-daemon-accept" for thread in threading.enumerate())
            with Client(directory) as client:
                assert client.call("status") == "fine"
        print("done")
    """
    done = run_python(program)
    assert done.stdout == "done\n", done.stderr


def run_python(program):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )


# ---------------------------------------------------------------------- streams


def test_a_stream_ends_when_its_client_leaves_though_nothing_is_sent(server, daemon, desk):
    def read():
        with pytest.raises(NoDaemon):
            list(daemon.stream("follow"))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait(desk.entered)
    assert daemon.call("status")
    with Raw(server, encode_request(1, "follow", {})):
        pass
    assert desk.streams_closed.acquire(timeout=PATIENCE)
    server.close()
    assert desk.streams_closed.acquire(timeout=PATIENCE)
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_whatever_the_client_sends_meanwhile_ends_a_stream(server, desk):
    with Raw(server, encode_request(1, "follow", {})) as raw:
        wait(desk.entered)
        raw.send(STATUS)
        assert raw.answer() == {"jsonrpc": "2.0", "id": 1, "result": None}
        assert raw.answer()["result"] == {"verbose": False}


def test_closing_the_iterator_ends_the_stream(server, daemon, desk):
    items = daemon.stream("pour")
    next(items)
    items.close()
    assert desk.streams_closed.acquire(timeout=PATIENCE)
    assert daemon.call("status")


# ---------------------------------------------------------------------- versions


@pytest.mark.parametrize("params", [{"protocol": 2, "blaze": "9.9", "new": 1}, {}, {"protocol": True}, {"blaze": "\n"}])
def test_a_client_of_another_version_is_told_both_and_nothing_is_done(server, desk, params):
    with Raw(server, encode_request("hello", "hello", params) + STATUS) as raw:
        error = raw.answer()["error"]
        assert error["code"] == Code.UNLIKE_VERSION and "restart the daemon with 'blazed restart'" in error["message"]
        assert f"version 1 of its protocol (Blaze {blaze.__version__}" in error["message"]
        assert raw.answer() is None
    assert desk.calls == []


def test_a_program_of_another_version_gets_a_clear_error(server, desk, monkeypatch):
    monkeypatch.setattr(client, "PROTOCOL_VERSION", 2)
    monkeypatch.setattr(client, "__version__", "9.9")
    with (
        Client(server.state_dir) as daemon,
        pytest.raises(UnlikeVersion, match=r"this program version 2 \(Blaze 9.9\)"),
    ):
        daemon.call("status")
    assert desk.calls == []


# ---------------------------------------------------------------------- the socket's file


def test_the_socket_belongs_to_its_owner_alone_whatever_the_umask(serve):
    """R53, P2: 0600 from the first byte; the directory 0700; nothing else is left."""
    umask = os.umask(0)
    try:
        server = serve()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(server.address).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(server.state_dir).st_mode) == 0o700
    assert os.listdir(server.state_dir) == ["daemon.sock"]


@pytest.mark.parametrize("name", ["daemon.sock", "daemon.sock.new"])
@pytest.mark.parametrize("kind", ["a symbolic link", "a file", "a directory"])
def test_what_stands_in_the_place_of_the_socket_and_is_none_is_refused_and_left_alone(serve, tmp_path, name, kind):
    """R53: a symlink in the place of the socket."""
    place, target = tmp_path / "state" / name, tmp_path / "precious"
    place.parent.mkdir(mode=0o700)
    target.write_text("precious")
    {"a symbolic link": lambda: place.symlink_to(target), "a file": place.touch, "a directory": place.mkdir}[kind]()
    with pytest.raises(StateError, match=f"{name} is {kind} and not the daemon's socket"):
        serve()
    assert os.path.lexists(place) and target.read_text() == "precious" and not server_threads()


def test_a_socket_that_a_killed_daemon_left_is_replaced(serve, tmp_path):
    """R54, P2: the file stays after a crash."""

    def crash():
        Server(tmp_path / "state", {}).start()
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        with Child(crash) as child:
            assert child.wait() == signal.SIGKILL
        assert (tmp_path / "state" / "daemon.sock").is_socket()
    with pytest.raises(NoDaemon, match=r"no daemon serves .* any more"):
        Client(tmp_path / "state").call("status")
    assert_serves(serve())


def test_a_directory_that_others_may_write_to_is_refused(serve, tmp_path):
    """R53: wrong mode."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(StateError, match="others may write"):
        serve()


def test_a_socket_that_was_deleted_or_replaced_is_made_anew(server, daemon):
    assert not server.check()
    os.unlink(server.address)
    with pytest.raises(NoDaemon):
        Client(server.state_dir).call("status")
    assert server.check() and not server.check()
    assert_serves(server)
    with socket.socket(socket.AF_UNIX) as other:
        os.unlink(server.address)
        other.bind(server.address)
        assert server.check()
    assert_serves(server)
    assert daemon.call("status")
    assert len([thread for thread in server_threads() if "accept" in thread.name]) == 1


def test_connections_outlive_the_socket_being_made_anew(server, daemon):
    with Raw(server, STATUS) as raw:
        raw.answer()
        os.unlink(server.address)
        assert server.check()
        raw.send(STATUS)
        assert raw.answer()["result"]


def test_closing_removes_the_socket_but_not_another_ones(serve, tmp_path):
    server = serve()
    server.close()
    assert os.listdir(server.state_dir) == [] and server.address is None
    with pytest.raises(NoDaemon, match="start one with 'blazed start'"):
        Client(server.state_dir).call("status")
    server.start()
    assert_serves(server)
    os.unlink(tmp_path / "state" / "daemon.sock")
    with Server(tmp_path / "state", {}) as other:
        server.close()
        assert Path(other.address).is_socket()


@pytest.mark.skipif(sys.platform != "linux", reason="goes through /proc")
def test_a_path_longer_than_a_socket_may_have_is_served(desk, tmp_path):
    """P2: the limit is 107 bytes."""
    directory = tmp_path / ("long-" * 40) / "state"
    with Server(directory, desk.methods) as server, Client(directory) as daemon:
        assert len(server.address) > 107 and daemon.call("status")
        os.unlink(server.address)
        assert server.check()
        assert_serves(server)
    assert os.listdir(directory) == []


def test_a_path_that_is_too_long_is_refused_where_there_is_no_way_round(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(address, "_SELF", tmp_path / "no proc")
    monkeypatch.setattr(address, "MAX_PATH", 10)
    with pytest.raises(StateError, match="choose a state directory with a shorter path"):
        serve()
    (tmp_path / "state" / "daemon.sock").touch()
    with pytest.raises(StateError, match="choose a state directory with a shorter path"):
        Client(tmp_path / "state").call("status")


def test_a_relative_directory_is_found_after_the_process_has_gone_elsewhere(desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Server("state", desk.methods) as server, Client("state") as daemon:
        monkeypatch.chdir("/")
        assert daemon.call("status") and not server.check()
    assert os.listdir(tmp_path / "state") == []


# ---------------------------------------------------------------------- other users


def opened_to_all(server, tmp_path):
    """Take away every protection but that by the peer's uid."""
    for directory in (server.state_dir, *server.state_dir.parents):
        if directory == Path("/") or directory.stat().st_uid != os.getuid():
            break
        directory.chmod(directory.stat().st_mode | 0o055)
    os.chmod(server.address, 0o666)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED") or os.geteuid() != 0, reason="only root can be another user")
def test_another_users_connection_is_refused_by_its_uid(server, tmp_path, desk):
    """R50, P2: owner and root only, even if the mode of the socket lets others in."""
    opened_to_all(server, tmp_path)

    def stranger():
        os.setuid(65534)
        with Raw(server, STATUS) as raw:
            return raw.answer(), raw.answer()

    first, second = in_child(stranger)
    assert first["error"]["code"] == Code.NOT_ALLOWED and "uid 65534" in first["error"]["message"] and second is None
    assert desk.calls == []
    assert_serves(server)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell")
def test_the_uid_of_the_peer_decides(server, monkeypatch, desk):
    """R50: the same without being root."""
    credentials = struct.pack("iII", 1, 12345, 12345)
    assert address.peer_uid(type("Sock", (), {"getsockopt": lambda *_: credentials})()) == 12345
    monkeypatch.setattr("blaze.daemon.server.peer_uid", lambda sock: os.geteuid() + 1)
    with Client(server.state_dir) as daemon, pytest.raises(Refused, match="is neither uid"):
        daemon.call("status")
    assert desk.calls == []


def test_a_client_tells_nothing_to_another_users_server(server, monkeypatch):
    """P2: whoever could put a socket in the place of the daemon's learns nothing."""
    monkeypatch.setattr(client, "my_uid", lambda: 4711)
    monkeypatch.setattr(client, "peer_uid", lambda sock: 12345)
    with Client(server.state_dir) as daemon, pytest.raises(Refused, match="served by another user"):
        daemon.call("status")


# ---------------------------------------------------------------------- TCP


class RawTcp(Raw):
    """The same at a port."""

    def __init__(self, server, sent=b""):
        self.sock = socket.create_connection(("127.0.0.1", int(server.address.partition(":")[2])), PATIENCE)
        self.file = self.sock.makefile("rb")
        self.challenge = self.answer()["params"]["nonce"]
        self.send(sent)


def test_the_token_belongs_to_its_owner_alone_and_is_another_one_each_time(serve):
    """R53, R50: 0600 from the first byte; only on the loopback address."""
    found = set()
    for _ in range(2):
        server = serve(tcp=True)
        assert server.address.startswith("127.0.0.1:")
        file = server.state_dir / "daemon.tcp"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and os.listdir(server.state_dir) == ["daemon.tcp"]
        found.add(json.loads(file.read_text())["token"])
        server.close()
        assert os.listdir(server.state_dir) == []
    assert len(found) == 2


@pytest.mark.parametrize(
    "params",
    [{}, {"nonce": "a", "proof": "b"}, {"nonce": "a", "proof": "é\ud800"}, {"nonce": 1, "proof": []}, {"proof": "x"}],
)
def test_who_does_not_know_the_token_gets_nowhere(serve, desk, params):
    """R50, P2."""
    server = serve(tcp=True)
    hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"protocol": 1, **params}}).encode()
    with RawTcp(server, hello + b"\n" + STATUS) as raw:
        assert raw.answer()["error"]["code"] in (Code.NOT_ALLOWED, Code.PARSE_ERROR)
        assert raw.answer() is None
    assert desk.calls == []


@pytest.mark.parametrize("sent", [STATUS, b"[]\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 5000, b'{"a":'])
def test_before_the_challenge_is_answered_nothing_else_is_taken(serve, desk, sent):
    """R50, P2: nor from a browser; and a stranger's frame is short and has a deadline."""
    server = serve(tcp=True, frame=0.1)
    with RawTcp(server, sent) as raw:
        assert "error" in raw.answer()
        assert raw.answer() is None
    with Client(server.state_dir) as daemon:
        assert daemon.call("status") and desk.calls == ["status"]


def test_an_answer_to_one_challenge_is_worth_nothing_at_the_next(serve, desk):
    """R50: replay-proof."""
    from blaze.daemon.challenge import CLIENT, proof

    server = serve(tcp=True)
    token = bytes.fromhex(json.loads((server.state_dir / "daemon.tcp").read_text())["token"])
    with RawTcp(server) as raw:
        answer = {"protocol": 1, "nonce": "ab", "proof": proof(token, CLIENT, raw.challenge, "ab")}
        hello = encode_request("hello", "hello", answer)
        raw.send(hello)
        assert "proof" in raw.answer()["result"]
        raw.send(hello)
        assert raw.answer()["error"]["code"] == Code.NOT_ALLOWED
    with RawTcp(server, hello) as raw:
        assert raw.answer()["error"]["code"] == Code.NOT_ALLOWED


def test_whoever_took_the_port_of_a_dead_daemon_is_found_out(serve):
    """P2: a program that answers everything, but does not know the token."""
    server = serve(tcp=True)
    with socket.create_server(("127.0.0.1", 0)) as rogue:
        file = server.state_dir / "daemon.tcp"
        found = json.loads(file.read_text())
        file.write_text(json.dumps({**found, "port": rogue.getsockname()[1]}))
        heard = []

        def answer():
            sock, _ = rogue.accept()
            with sock, sock.makefile("rb") as lines:
                sock.sendall(protocol.encode_notice("challenge", {"nonce": "ab"}))
                lines.readline()
                sock.sendall(protocol.encode_result("hello", {"protocol": 1, "proof": "0" * 64}))
                heard.append(lines.read())

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(server.state_dir) as daemon, pytest.raises(Refused, match="another program"):
            daemon.call("status")
        thread.join(PATIENCE)
        assert heard == [b""]
        assert server.check() and not server.check()
    assert_serves(server)


@pytest.mark.parametrize("fault", ["mode", "link", "no json", "fifo"])
def test_a_token_file_that_is_not_to_be_trusted_is_refused(tmp_path, fault):
    """R53: wrong owner or mode."""
    file = tmp_path / "daemon.tcp"
    if fault == "fifo":
        os.mkfifo(file, 0o600)
    elif fault == "link":
        (tmp_path / "other").write_text('{"port": 1, "token": "ab"}')
        file.symlink_to(tmp_path / "other")
    else:
        file.touch(0o600)
        file.write_text("{" if fault == "no json" else '{"port": 1, "token": "ab"}')
        file.chmod(0o600 if fault == "no json" else 0o644)
    with pytest.raises(StateError, match=r"daemon\.tcp"):
        Client(tmp_path).call("status")


# ---------------------------------------------------------------------- the client's side


def test_without_a_daemon_the_error_says_so(tmp_path):
    with pytest.raises(NoDaemon, match=r"no daemon serves .*start one with 'blazed start'"):
        Client(tmp_path).call("status")
    (tmp_path / "daemon.sock").touch()
    with pytest.raises(NoDaemon):
        Client(tmp_path).call("status")


def test_a_daemon_that_does_not_answer_in_time_is_an_error_that_says_so(server, desk):
    with Client(server.state_dir, timeout=0.1) as daemon:
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.1 s") as raised:
            daemon.call("hold")
        assert isinstance(raised.value, TimeoutError)
        desk.go.set()
        assert daemon.call("status")  # and not the late answer to the other one


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", NoDaemon),
        (b"{", NoDaemon),
        (b"garbage\n", DaemonError),
        (b"[" * 1000 + b"\n", DaemonError),
        (protocol.encode_result("hello", {}) + protocol.encode_result(99, 1), DaemonError),
        (protocol.encode_result("hello", []) + protocol.encode_item(1, 1), DaemonError),
        (protocol.encode_result(1, 1), DaemonError),
        (protocol.encode_notice("challenge", {}), DaemonError),
        (b"x" * 100, NoDaemon),
    ],
)
def test_a_server_that_does_not_speak_the_protocol_is_an_error_that_says_so(tmp_path, sent, error):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "daemon.sock"))
        listening.listen()

        def answer():
            sock, _ = listening.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(tmp_path, timeout=PATIENCE) as daemon, pytest.raises(error):
            daemon.call("status")
        thread.join(PATIENCE)


def test_a_client_waits_in_line_for_a_daemon_that_accepts_slowly(tmp_path):
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(tmp_path / "daemon.sock"))
        listening.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(str(tmp_path / "daemon.sock"))
        with Client(tmp_path, timeout=0.1) as daemon, pytest.raises(DaemonBusy, match="too many wait"):
            daemon.call("status")

        def accept_two():
            for _ in range(2):
                sock = stack.enter_context(listening.accept()[0])
            sock.recv(65536)
            sock.sendall(protocol.encode_result("hello", {}) + protocol.encode_result(1, "at last"))

        accepting = threading.Timer(0.05, accept_two)
        accepting.start()
        with Client(tmp_path, timeout=PATIENCE) as daemon:
            assert daemon.call("status") == "at last"
        accepting.join(PATIENCE)


def test_a_request_that_may_have_been_done_is_not_sent_again(tmp_path):
    """The connection is a kept one, and ends without a goodbye after the request was read."""
    received = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "daemon.sock"))
        listening.listen()

        def answer():
            sock, _ = listening.accept()
            with sock, sock.makefile("rb") as lines:
                lines.readline()
                received.append(json.loads(lines.readline())["id"])
                sock.sendall(protocol.encode_result("hello", {}) + protocol.encode_result(1, "fine"))
                received.append(json.loads(lines.readline())["id"])

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(tmp_path) as daemon:
            assert daemon.call("trigger") == "fine"
            with pytest.raises(NoDaemon, match="whether it did it is not known"):
                daemon.call("trigger")
        thread.join(PATIENCE)
    assert received == [1, 2]


def test_a_client_goes_on_with_the_next_daemon(serve, desk):
    with Client(serve().state_dir) as daemon:
        for _ in range(3):
            server = serve()
            assert daemon.call("status")
            server.close()
    assert desk.calls == ["status"] * 3


# ---------------------------------------------------------------------- closing and forking


def test_closing_lets_requests_end_and_ends_all_threads(serve, desk):
    server = serve()
    with Raw(server, STATUS) as idle, Raw(server, encode_request(1, "hold", {}) + STATUS) as working:
        idle.answer()
        wait(desk.entered)
        closing = threading.Thread(target=server.close, args=(PATIENCE,))
        closing.start()
        assert idle.answer()["params"] == {"reason": "the daemon stops"}
        wait_until(lambda: all(one._leaving for one in list(server._places._threads)))
        desk.go.set()
        closing.join(PATIENCE)
        assert working.answer()["result"] == "held"
        assert working.answer()["method"] == "goodbye"  # what it sent besides was not done
        assert not server_threads() and sorted(desk.calls) == ["hold", "status"]


def test_a_method_that_does_not_end_holds_up_closing_for_the_grace_only(serve, desk, caplog):
    server = serve()
    with Raw(server, encode_request(1, "hold", {})) as raw:
        wait(desk.entered)
        begun = time.monotonic()
        server.close(grace=0.05)
        assert time.monotonic() - begun < SOON
        assert raw.answer() is None
    assert "1 requests have not ended within 0.05 s" in caplog.text


def test_a_forked_child_keeps_neither_the_socket_nor_the_connections(serve, desk):
    """P5, R54: when the daemon dies, its clients see it though a child of its lives on."""
    server = serve()
    with Raw(server, STATUS) as raw:
        raw.answer()
        go_on_reading, go_on = os.pipe()

        def child():
            os.read(go_on_reading, 1)
            assert_serves(server)
            return server.address, server.connections

        with Child(child) as forked:
            raw.send(STATUS)
            assert raw.answer()["result"]
            server.close()
            assert raw.answer()["method"] == "goodbye" and raw.answer() is None
            with pytest.raises(NoDaemon):
                Client(server.state_dir).call("status")
            server.start()
            os.write(go_on, b"!")
            assert forked.result() == (None, 0)
        os.close(go_on), os.close(go_on_reading)


def test_a_forked_child_does_not_use_its_parents_connection(server, daemon):
    assert daemon.call("echo", text="parent") == "parent"
    assert in_child(lambda: (daemon.call("echo", text="child"), daemon.close())[0]) == "child"
    assert daemon.call("echo", text="parent again") == "parent again"


def test_a_process_that_serves_ends_without_waiting_for_clients(tmp_path):
    """P6: threads of the server keep no process alive."""
    program = f"""
        import socket
        from blaze.daemon.server import Server
        server = Server({str(tmp_path / "state")!r}, {{}}).start()
        socket.socket(socket.AF_UNIX).connect(server.address)
    """
    begun = time.monotonic()
    assert run_python(program).returncode == 0
    assert time.monotonic() - begun < 5


def test_the_client_is_cheap_to_import():
    """No server, no engine, no cron, no hashes."""
    program = """
        import sys
        import blaze.daemon.client
        heavy = "socketserver asyncio croniter sqlite3 hashlib hmac concurrent.futures blaze.core.session".split()
        print(*[name for name in heavy if name in sys.modules])
    """
    assert run_python(program).stdout == "\n"


def test_the_errors_of_the_daemon_are_errors_of_blaze():
    assert issubclass(RunSuspended, BlazeError) and issubclass(NoDaemon, ConnectionError)
    assert connection.Limits().connections == 64
