"""Real daemons for tests, on a definition that tells what it did; all are reaped, whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from blaze.daemon.detaching import start_detached
from blaze.daemon.owner import owner_of
from blaze.daemon.process import Settings
from blaze.daemon.remote import connect
from tests.integration.workbench import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]

#: ``note`` writes a line into a file; ``hold`` waits until a file is there; ``two`` needs both.
DEFINITION = """
import os, time
from pathlib import Path
import blaze
from blaze import BlazeBlock, BlazeSequence, SeqBlockData

HERE = Path(__file__).parent
blocks, sequences = BlazeBlock(), BlazeSequence()

def tell(word):
    with open(HERE / "witness", "a") as file:
        file.write(word + "\\n")

@blocks.block
def note(word: str = "noted") -> str:
    tell(word)
    return word

@blocks.block
def hold(word: str, file: str = "go") -> str:
    tell("holding " + blaze.current().idempotency_key)
    while not (HERE / file).exists():
        time.sleep(0.005)
    return word

@sequences.sequence(blocks, [SeqBlockData("note")])
def one(context=None):
    return context

@sequences.sequence(blocks, [SeqBlockData("note"), SeqBlockData("hold", parameters={"word": "@note"})])
def two(context=None):
    return context
"""


class Site:
    """A folder with a definition, a state directory, and the daemons that were started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = folder / ".blaze"
        self.definition = folder / "definition.py"
        self.definition.write_text(DEFINITION)
        self.processes = []

    @property
    def environment(self):
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}

    @property
    def witness(self):
        path = self.folder / "witness"
        return path.read_text().splitlines() if path.exists() else []

    def popen(self, *command, **settings):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=self.folder, env=self.environment, **settings
        )
        self.processes.append(process)
        return process

    def start(self, *flags):
        """A daemon in the foreground that serves."""
        with open(self.folder / "stderr", "ab") as stderr:
            process = self.popen("-m", "blaze.daemon", *flags, stdout=stderr, stderr=stderr)
        wait_until(lambda: self.serves(process), "that the daemon serves")
        return process

    def serves(self, process):
        assert process.poll() is None, (self.folder / "stderr").read_text()
        owner = owner_of(self.state_dir)
        return owner is not None and owner.pid == process.pid and (self.state_dir / "daemon.sock").exists()

    def detach(self, **settings):
        return start_detached(Settings(self.state_dir, str(self.definition), **settings))

    def connect(self):
        return connect(self.state_dir)

    def go(self, file="go"):
        """Let the blocks that hold go on."""
        (self.folder / file).touch()

    def log(self):
        folder = self.state_dir / "log"
        return "".join(path.read_text() for path in sorted(folder.glob("run_*"))) if folder.is_dir() else ""

    def reap(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        owner = owner_of(self.state_dir)
        if owner is not None and owner.pid not in (0, os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGKILL)
            wait_until(lambda: owner_of(self.state_dir) is None, "the end of the detached daemon")
