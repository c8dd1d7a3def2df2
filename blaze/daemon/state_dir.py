"""Which directory holds the state: what was asked for, else the nearest ``.blaze/``, else a new one here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional

from ..core.ground.errors import NotFound

# Imported where it is used: every command knows this module, also where it only shows its help.
if TYPE_CHECKING:
    from pathlib import Path

#: The directory that is looked for in a project.
NAME = ".blaze"
VARIABLE = "BLAZE_STATE_DIR"


class StateDir(NamedTuple):
    """A state directory, which may not be there yet."""

    path: Path
    #: Whether somebody named it, rather than it being looked for.
    asked_for: bool

    @property
    def database(self) -> Path:
        """The state file; opened through SQLite and nothing else."""
        from ..core.remember.database import FILE_NAME

        return self.path / FILE_NAME

    def has_state(self) -> bool:
        """Whether there is a state file."""
        return self.database.exists()

    def existing(self) -> StateDir:
        """This one, for somebody who only reads. Raises :class:`NotFound` if it was asked for and is not there."""
        if self.asked_for and not self.path.is_dir():
            raise NotFound(f"there is no state directory {self.path}; see --state-dir and ${VARIABLE}")
        return self


def find_state_dir(
    given: Optional[str] = None, environ: Mapping[str, str] = os.environ, start: Optional[Path] = None
) -> StateDir:
    """``given``, else ``$BLAZE_STATE_DIR``, else the nearest ``.blaze/`` in ``start`` (here) or above, else a new one.

    Nothing is made: that is left to whoever writes.
    """
    from pathlib import Path

    named = given or environ.get(VARIABLE)
    if named:
        return StateDir(Path(os.path.abspath(os.path.expanduser(named))), True)
    here = Path.cwd() if start is None else start.absolute()
    for folder in (here, *here.parents):
        if (folder / NAME).is_dir():
            return StateDir(folder / NAME, False)
    return StateDir(here / NAME, False)
