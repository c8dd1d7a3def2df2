"""Loading a definition: a file or a module with ``BlazeBlock`` and ``BlazeSequence`` objects at its top level.

It is code of the user, and may do anything while it is imported. Whatever goes wrong is a
:class:`DefinitionError` that says where, and leaves ``sys.modules`` and ``sys.path`` as
they were. Loading it again executes it anew, with those of the modules it imports that
lie beside it, and gives fresh objects; the old ones stay usable.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..core.block import BlazeBlock
from ..core.ground.errors import Fault, ValidationError
from ..core.ground.names import did_you_mean
from ..core.seq import BlazeSequence

#: The file that is looked for if nothing is named.
DEFAULT = "definition.py"
VARIABLE = "BLAZE_DEFINITION"

#: Modules that a definition has brought with it, by the directory that it lies in.
_brought: Dict[str, Set[str]] = {}


class DefinitionError(ValidationError):
    """A definition can't be loaded."""


class LoadedDefinition(NamedTuple):
    """A definition that was loaded."""

    #: As it was named.
    source: str
    #: The file that was executed.
    path: Path
    blocks: BlazeBlock
    sequences: BlazeSequence
    #: What may be wrong, and kept nothing from working.
    warnings: List[str]


class _Place(NamedTuple):
    """Where a definition is, and how it is imported."""

    #: Module name.
    name: str
    path: Path
    #: The directory that has to be in ``sys.path``.
    root: str


def find_definition(given: Optional[str] = None, environ: Mapping[str, str] = os.environ) -> str:
    """The definition that is meant: ``given``, else ``$BLAZE_DEFINITION``, else ``./definition.py``.

    Raises :class:`DefinitionError` if none is named and there is no such file.
    """
    named = given or environ.get(VARIABLE)
    if named:
        return named
    if not os.path.exists(DEFAULT):
        raise _fault(
            f"./{DEFAULT}", f"there is no definition here; name a file or module with --definition or ${VARIABLE}"
        )
    return DEFAULT


def load_definition(source: str) -> LoadedDefinition:
    """Execute the definition that ``source`` names: a path, or a dotted module. What it prints goes to stderr.

    Raises :class:`DefinitionError` with file and line.
    """
    place = _locate(source)
    modules, path = dict(sys.modules), list(sys.path)
    for name in _brought.get(place.root, ()):
        sys.modules.pop(name, None)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = _execute(place)
        blocks, sequences = _registries(module, place)
    except BaseException:
        _restore(modules, path)
        raise
    _brought[place.root] = set(_lying_below(place.root, modules))
    return LoadedDefinition(source, place.path, blocks, sequences, _warnings(place))


# ---------------------------------------------------------------------- finding it


def _locate(source: str) -> _Place:
    is_file = source.endswith(".py") or os.sep in source or os.path.isfile(source)
    return _locate_file(source) if is_file else _locate_module(source)


def _locate_file(source: str) -> _Place:
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if path.is_dir():
        raise _fault(source, f"it is a directory; name a file in it, such as {Path(source, DEFAULT)}")
    if not path.exists():
        try:
            near = did_you_mean(path.name, sorted(one.name for one in path.parent.glob("*.py")))
        except OSError:
            near = ""
        raise _fault(source, f"there is no such file{near}")
    if not path.is_file():
        raise _fault(source, "it is no regular file")
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return _Place(".".join(parts), path, str(folder))


def _locate_module(source: str) -> _Place:
    root = os.getcwd()
    if not all(part.isidentifier() for part in source.split(".")):
        raise _fault(source, "it names no file and no module; write path/to/definition.py or package.module")
    modules, path = dict(sys.modules), list(sys.path)
    try:
        _add_to_path(root)
        with contextlib.redirect_stdout(sys.stderr):
            spec = importlib.util.find_spec(source)  # imports the packages above it
    except BaseException as error:
        _restore(modules, path)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _told(error, source, root) from error
    if spec is None or not spec.has_location or spec.origin is None:
        _restore(modules, path)
        raise _fault(source, f"there is no module of this name (looked for from {root}); a file is named with its .py")
    depth = source.count(".") + (os.path.basename(spec.origin) == "__init__.py")
    origin = Path(os.path.abspath(spec.origin))
    return _Place(source, origin, str(origin.parents[depth]))


def _add_to_path(root: str) -> None:
    if root not in sys.path:
        sys.path.insert(0, root)


# ---------------------------------------------------------------------- executing it


class _FreshLoader(SourceFileLoader):
    """Reads the source, never a compiled file: two edits within a second look the same to that."""

    def path_stats(self, path: object) -> Mapping[str, float]:
        """None; without them nothing that was compiled before is used, and nothing is written."""
        raise OSError("compiled anew each time")


def _execute(place: _Place) -> ModuleType:
    _add_to_path(place.root)
    importlib.invalidate_caches()
    taken = sys.modules.get(place.name)
    if taken is not None and not _is_file_of(taken, place.path):
        other = getattr(taken, "__file__", None) or "a built-in module"
        raise _fault(str(place.path), f"its name is that of the module {place.name} ({other}); give the file another")
    is_package = place.path.name == "__init__.py"
    spec = importlib.util.spec_from_file_location(
        place.name,
        place.path,
        loader=_FreshLoader(place.name, str(place.path)),
        submodule_search_locations=[str(place.path.parent)] if is_package else None,
    )
    if spec is None or spec.loader is None:
        raise _fault(str(place.path), "it can't be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        parent = place.name.rpartition(".")[0]
        if parent:
            importlib.import_module(parent)
        sys.modules[place.name] = module
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too
        raise _told(error, str(place.path), place.root) from error
    return module


def _is_file_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and os.path.realpath(file) == os.path.realpath(path)


def _restore(modules: Dict[str, ModuleType], path: List[str]) -> None:
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:] = path


def _lying_below(root: str, before: Mapping[str, ModuleType]) -> Iterator[str]:
    """The modules that were loaded since, and belong to the definition rather than to an installed package."""
    inside = os.path.join(os.path.realpath(root), "")
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if before.get(name) is module or not isinstance(file, str) or name.partition(".")[0] == "blaze":
            continue
        real = os.path.realpath(file)
        if real.startswith(inside) and f"{os.sep}site-packages{os.sep}" not in real:
            yield name


# ---------------------------------------------------------------------- what is in it


def _registries(module: ModuleType, place: _Place) -> Tuple[BlazeBlock, BlazeSequence]:
    values = list({id(value): value for value in vars(module).values()}.values())
    blocks = [value for value in values if isinstance(value, BlazeBlock)]
    sequences = [value for value in values if isinstance(value, BlazeSequence)]
    where = str(place.path)
    if not sequences:
        raise _fault(where, "it has no BlazeSequence at its top level; write sequences = BlazeSequence()")
    if not any(sequences):
        raise _fault(where, "it registers no sequence; decorate a function with @sequences.sequence(...)")
    return _joined_blocks(blocks), _joined_sequences(sequences, where)


def _joined_blocks(registries: List[BlazeBlock]) -> BlazeBlock:
    """One registry of all blocks. Sequences know their own, so of two blocks of one name the first is told."""
    if len(registries) == 1:
        return registries[0]
    joined = BlazeBlock()
    for registry in registries:
        for name, block in registry.items():
            if name not in joined:
                joined.include(block)
    return joined


def _joined_sequences(registries: List[BlazeSequence], where: str) -> BlazeSequence:
    if len(registries) == 1:
        return registries[0]
    joined, faults = BlazeSequence(), []
    for registry in registries:
        for sequence in registry.values():
            try:
                joined.include(sequence)
            except ValidationError as error:
                faults += error.errors
    if faults:
        raise DefinitionError(faults, where)
    return joined


def _warnings(place: _Place) -> List[str]:
    """Whoever can write the file or the directory it lies in can run anything as this user."""
    found = []
    for path in (place.path, place.path.parent):
        with contextlib.suppress(OSError):
            info = path.stat()
            if info.st_mode & 0o022 and not info.st_mode & 0o1000:
                found.append(
                    f"others may write to {path}, and what stands there is executed as you: run chmod go-w {path}"
                )
    return found


# ---------------------------------------------------------------------- what went wrong


def _fault(where: str, what: str) -> DefinitionError:
    return DefinitionError([Fault(where, what)], where)


def _told(error: BaseException, where: str, root: str) -> DefinitionError:
    """The error of a definition that failed, with the user's own line."""
    if isinstance(error, ValidationError):
        return DefinitionError(error.errors, error.subject or where)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return _fault(f"{error.filename}:{error.lineno}", f"{type(error).__name__}: {error.msg}")
    place = _line_below(error.__traceback__, root) or where
    if isinstance(error, SystemExit):
        calls = 'put the calls under if __name__ == "__main__":'
        return _fault(place, f"it ends the process (SystemExit: {error.code!r:.60}) when it is imported; {calls}")
    try:
        text = str(error)
    except Exception:
        text = ""
    return _fault(place, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _line_below(trace: Optional[TracebackType], root: str) -> Optional[str]:
    """``file:line`` of the innermost frame in a file of the definition."""
    found: Optional[str] = None
    inside = os.path.join(root, "")
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(inside) and "site-packages" not in file and not file.startswith(_PACKAGE):
            found = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
