"""How outputs are written down: pickled once, large ones to a file of their own, each with a preview.

Only the process that runs blocks reads pickles back, and only from its own state
directory; queries, status and everything that answers a socket use the previews.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from ..ground.errors import StateError
from ..ground.picture import Picture, encodable

#: Pickles up to this many bytes stand in the database; larger ones in ``results/``.
INLINE_LIMIT = 64 * 1024
#: Longest preview, in characters.
PREVIEW_LIMIT = 200
#: Fixed, so that every supported Python reads what any other wrote.
PICKLE_PROTOCOL = 5


class NotStorable(Exception):
    """The output can't be pickled; the message says why."""


_preview = Picture(levels=4, shown=6, long=120, longest_int=60)
_PLAIN = frozenset({float, bool, type(None)})
_WIDE = 1 << 64
_SHORT = 6


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(-_WIDE < value < _WIDE)
    if kind is not str:
        return kind in _PLAIN
    # A text with one of these may be a URL, and have a secret in it.
    return len(value) < 60 and bool(value.isascii()) and "://" not in value and "=" not in value


def preview(value: Any) -> str:
    """A short, bounded text for people."""
    if _is_plain(value):
        return repr(value)
    kind = type(value)
    # What reprlib does the same way, only at ten times the price.
    if (kind is list or kind is tuple) and len(value) <= _SHORT and all(map(_is_plain, value)):
        text = repr(value)
        if len(text) <= PREVIEW_LIMIT:
            return text
    try:
        text = _preview.repr(value)
    except BaseException as error:  # a container of the user's that can't be walked
        text = f"<{kind.__name__}: repr() raised {type(error).__name__}>"
    return encodable(text if len(text) <= PREVIEW_LIMIT else text[: PREVIEW_LIMIT - 3] + "...")


def pickled(value: Any) -> bytes:
    """The pickle of an output. Raises :class:`NotStorable`."""
    try:
        return pickle.dumps(value, PICKLE_PROTOCOL)
    except BaseException as error:  # pickling runs the value's own code, which may raise anything
        raise NotStorable(f"{type(error).__name__}: {error}") from error


class ResultFiles:
    """The files of large outputs, one directory a run."""

    def __init__(self, directory: Path, sync: bool) -> None:
        self._directory = directory
        self._sync = sync

    def write(self, run_id: str, name: str, data: bytes) -> str:
        """Write a pickle; its name relative to ``results/``. Whole or not at all: made aside, then renamed."""
        folder = self._folder(run_id)
        target = folder / f"{name}.pickle"
        aside = folder / f".{name}.{os.getpid()}.part"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            with memoryview(data) as view:
                written = 0
                while written < len(view):
                    written += os.write(descriptor, view[written : written + (1 << 26)])
            if self._sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, target)
        self._sync_names(folder)
        return f"{run_id}/{target.name}"

    def read(self, name: str) -> bytes:
        """The bytes of a file that :meth:`write` named. Raises :class:`StateError` if it is gone."""
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise StateError(f"the output stored in {self._directory / name} can't be read: {error}") from error

    def link(self, name: str, run_id: str) -> str:
        """Make a file of one run belong to another run too, without copying it where links work.

        Raises :class:`StateError` if it is gone, or if there is no room.
        """
        target = self._directory / run_id / name.rpartition("/")[2]
        try:
            self._folder(run_id)
            try:
                os.link(self._directory / name, target)
            except FileExistsError:
                pass
            except OSError:
                return self.write(run_id, target.stem, self.read(name))
            self._sync_names(target.parent)
        except OSError as error:
            raise StateError(f"the output stored in {self._directory / name} can't be taken over: {error}") from error
        return f"{run_id}/{target.name}"

    def _folder(self, run_id: str) -> Path:
        """The directory of a run. Each is made by itself: ``parents=True`` would leave ``results/`` to the umask."""
        for folder in (self._directory, self._directory / run_id):
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _sync_names(self, folder: Path) -> None:
        """Make the names in a run's directory last through a power cut, and those of the directories."""
        if self._sync:
            for directory in (folder, self._directory, self._directory.parent):
                _sync_directory(directory)

    def remove(self, run_id: str) -> None:
        """Delete all files of a run."""
        folder = self._directory / run_id
        try:
            names = os.listdir(folder)
        except OSError:
            return
        for name in names:
            try:
                os.unlink(folder / name)
            except OSError:
                continue
        try:
            os.rmdir(folder)
        except OSError:
            return


def unpickled(data: bytes) -> Any:
    """The output that a pickle of our own state directory holds.

    The one place in Blaze that loads pickles from the state. Its callers run blocks,
    so whoever may write into the state directory (mode 0700) could run code anyway.
    """
    try:
        return pickle.loads(data)
    except Exception as error:  # a class that moved or changed may raise anything
        raise StateError(f"a stored output can't be read back: {type(error).__name__}: {error}") from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
