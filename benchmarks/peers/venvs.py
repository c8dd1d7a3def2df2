"""Makes the environments: ``python -m benchmarks.peers.venvs [NAME ...]``, which ``make bench-peers`` calls.

Each is made with the interpreter that runs this, by the ordinary pip as it is set up, and made again when its
pins change. Blaze gets one too, so that its size and its imports are those of a plain installation. A peer that
can't be installed (its Python may be too new for this one) is left out, and the tables say so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ..bench import ROOT
from ..report import note
from .field import pins

VENVS = ROOT / ".venv-peers"
BLAZE = "blaze"
#: Kept in an environment that is complete: what was asked for.
STAMP = "pins.json"

#: Prints the distributions of an environment, and the bytes of its packages without what was compiled.
INVENTORY = """
import importlib.metadata, json, os, sys, sysconfig
tools = {"pip", "setuptools", "wheel"}
found = {d.metadata["Name"].lower(): d for d in importlib.metadata.distributions()}
found = {name: d for name, d in found.items() if name not in tools}
files = (d.locate_file(f) for d in found.values() for f in d.files or () if not str(f).endswith(".pyc"))
paths = {os.path.realpath(file) for file in files}
size = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
print(json.dumps({"python": sys.version.split()[0], "bytes": size,
                  "distributions": {name: d.version for name, d in sorted(found.items())}}))
"""


def interpreter(name: str) -> Optional[Path]:
    """The interpreter of an environment; None: it isn't there."""
    python = VENVS / name / "bin" / "python"
    return python if (VENVS / name / STAMP).is_file() else None


def inventory(name: str) -> Optional[Dict[str, Any]]:
    """What is installed in an environment."""
    python = interpreter(name)
    if python is None:
        return None
    done = subprocess.run([str(python), "-I", "-c", INVENTORY], capture_output=True, text=True, check=True)
    found: Dict[str, Any] = json.loads(done.stdout)
    return found


def make(name: str, versions: Mapping[str, str]) -> None:
    """Make an environment, unless it is as it should be. Blaze's own is brought up to date each time."""
    directory, stamp = VENVS / name, VENVS / name / STAMP
    if name != BLAZE and stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == versions:
        return
    note(f"{name}: installing {', '.join(' '.join(pin) for pin in versions.items()) or 'this project'}")
    if name != BLAZE or not stamp.is_file():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip = [
        str(directory / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-qq",
        "--no-compile",
    ]
    wanted: List[str] = [f"{distribution}=={version}" for distribution, version in versions.items()]
    if name == BLAZE:
        wanted = [str(ROOT)]
        if stamp.is_file():
            pip += ["--force-reinstall", "--no-deps"]
    stamp.unlink(missing_ok=True)
    subprocess.run([*pip, *wanted], check=True)
    stamp.write_text(json.dumps(versions), encoding="utf-8")


def main() -> int:
    """Make those that are named, or all; 0, or 1 if one could not be made."""
    everything = {BLAZE: {}, **pins()}
    names = sys.argv[1:] or list(everything)
    unknown = [name for name in names if name not in everything]
    if unknown:
        note(f"there is no peer {', '.join(unknown)}; there are {', '.join(everything)}")
        return 2
    status = 0
    for name in names:
        try:
            make(name, everything[name])
        except subprocess.CalledProcessError as error:
            status = 1
            note(f"{name} can't be installed here ({error.cmd[-1]}); its cells stay empty")
    return status


if __name__ == "__main__":
    sys.exit(main())
