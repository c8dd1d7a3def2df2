"""Becomes a daemon on each state directory that it is told of, and says how that went. For two that race."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from blaze.core.ground.errors import BlazeError
from blaze.daemon.process import Settings, run_daemon
from blaze.daemon.readiness import Readiness


def say(**word):
    print(json.dumps({"pid": os.getpid(), **word}), flush=True)


if __name__ == "__main__":
    definition = sys.argv[1]
    say(ready=True)
    for line in sys.stdin:
        settings = Settings(Path(line.strip()), definition)
        try:
            run_daemon(settings, Readiness(when_serving=lambda told: say(serving=told["instance"])), console=False)
        except BlazeError as error:
            say(refused=str(error))
