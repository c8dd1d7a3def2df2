"""The hourly log file ``run_{hour}_{date}.log``, written so that it can fail without a consequence."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from typing import Optional, Tuple, Union

# Log files are the only files of a state directory that are opened plainly, and here is the only
# place that does it. The database is opened through SQLite and nothing else: see DESIGN "What survives".
#
# O_APPEND: processes that share the file never write over each other. O_NOFOLLOW: a link laid in the
# file's place is refused. O_NONBLOCK: so is a pipe, where opening would wait for a reader.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
for _flag in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
    _FLAGS |= getattr(os, _flag, 0)

_Identity = Tuple[int, int]


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


class HourlyFileHandler(logging.Handler):
    """Writes each record to ``log_dir/run_{hour}_{date}.log`` of the record's own hour, local time.

    The directory (0700) and the files (0600) are made when they are needed. A file that was
    moved or deleted is made anew with the next record. What can't be written is counted in
    ``errors``; the first time, stderr is told. Nothing is ever raised.
    """

    def __init__(self, log_dir: Union[str, os.PathLike[str]], level: Union[int, str] = logging.NOTSET) -> None:
        super().__init__(level)
        #: Absolute path of the directory; a later ``chdir`` does not move it.
        self.log_dir: str = os.path.abspath(os.path.expanduser(os.fspath(log_dir)))
        #: Records that could not be written.
        self.errors: int = 0
        self._fd: Optional[int] = None
        self._path = ""
        self._opened: Optional[_Identity] = None
        self._torn = False

    def path_at(self, created: float) -> str:
        """The file for a record made at ``created`` (epoch seconds)."""
        try:
            local = time.localtime(created)
        except Exception:  # no number, not finite, out of range
            local = time.localtime()
        return os.path.join(self.log_dir, time.strftime("run_%H_%Y-%m-%d.log", local))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            self._write(self._descriptor(self.path_at(record.created)), data)
        except Exception:
            self.handleError(record)

    def write(self, record: logging.LogRecord) -> None:
        """Write one record past the handler's level and filters."""
        self.acquire()
        try:
            self.emit(record)
        finally:
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:
        """Count a failure; tell stderr of the first."""
        self.errors += 1
        if self.errors == 1:
            error = sys.exc_info()[1]
            try:
                sys.stderr.write(
                    f"blaze: the log in {self.log_dir!r} can't be written ({type(error).__name__}: {error}); "
                    "work goes on, further failures are only counted\n"
                )
            except Exception:  # no stderr, or a closed one
                pass

    def close(self) -> None:
        """Close the file. A record that comes later opens it again."""
        self.acquire()
        try:
            self._let_go()
        finally:
            self.release()
        super().close()

    def _descriptor(self, path: str) -> int:
        """An open descriptor of ``path``: the present one, if it is still that of the file of this name."""
        if self._fd is not None:
            if path == self._path and self._still_ours():
                try:
                    if _identity(os.stat(path)) == self._opened:
                        return self._fd
                except OSError:
                    pass  # deleted or moved away
            self._let_go()
        try:
            fd = os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            os.makedirs(self.log_dir, 0o700, exist_ok=True)
            fd = os.open(path, _FLAGS, 0o600)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise OSError(f"{path} is not a regular file")
        self._fd, self._path, self._opened, self._torn = fd, path, _identity(status), False
        return fd

    def _still_ours(self) -> bool:
        # A host program that closes all descriptors (daemons do) leaves a number that may by now be
        # another file's, the database's at worst: to be neither written nor closed.
        try:
            return self._fd is not None and _identity(os.fstat(self._fd)) == self._opened
        except OSError:
            return False

    def _let_go(self) -> None:
        fd, ours = self._fd, self._still_ours()
        self._fd = self._opened = None
        if fd is not None and ours:
            try:
                os.close(fd)
            except OSError:
                pass

    def _write(self, fd: int, data: bytes) -> None:
        # One write a record: whole lines, whoever else appends. After a disk ran full in the middle
        # of a line, the next record begins on a line of its own.
        if self._torn:
            data = b"\n" + data
        done = 0
        try:
            while done < len(data):
                done += os.write(fd, data[done:] if done else data)
        finally:
            if done:
                self._torn = done < len(data)
