"""The two servers that ``benchmarks.calling`` compares, each in a process of its own.

``python -m benchmarks.daemon_servers bare|blaze DIRECTORY`` serves ``daemon.sock`` there,
says ``ready``, and ends with its standard input.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any, Dict

from blaze.daemon.address import reachable
from blaze.daemon.methods import OBJECT, Method, Parameter
from blaze.daemon.server import BACKLOG, Server

SOCKET = "daemon.sock"


class Echo(socketserver.StreamRequestHandler):
    """Sends each line back, parsed and written anew."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(json.dumps(json.loads(line)).encode() + b"\n")


class EchoServer(socketserver.ThreadingUnixStreamServer):
    """What the standard library has."""

    daemon_threads = True
    request_queue_size = BACKLOG


def bare(directory: Path) -> None:
    """Serve the echo."""
    with reachable(str(directory / SOCKET)) as path, EchoServer(path, Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _until_the_end()
        server.shutdown()


def blaze(directory: Path) -> None:
    """Serve a method that answers what it is given."""

    def echo(value: Dict[str, Any]) -> Dict[str, Any]:
        return value

    with Server(directory, {"echo": Method(echo, {"value": Parameter(OBJECT)})}):
        _until_the_end()


def _until_the_end() -> None:
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"bare": bare, "blaze": blaze}[sys.argv[1]](Path(sys.argv[2]))
