"""How log records made inside blocks are tagged and kept, unseen by the application.

While installed, every record made while a step runs carries ``seq_id, run_id, step, attempt``
and is handed to the step's context. A record factory does it, so that it makes no difference
which logger the block uses, nor whether the application ever configured logging.

What the application shows stays as it is. Two things are open down to INFO although the
application's levels may be higher, and each is closed towards the application's handlers:

- the loggers named like the modules of the blocks, while a step runs (:class:`_BlockLogger`);
- ``blaze`` and what is below it (:class:`_Relay`).

What the application switched off stays off: ``logging.disable(...)`` and ``logger.disabled``.

Filters that the application put on a logger see a record before it is kept: what they take out
or change is not kept, or as changed (:class:`_FilteredLogger`). The root logger is touched only
where it has filters. Filters of handlers have no say in what is kept.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, Iterable, List, Optional, cast

from .context import running
from .keeping import Tags, complain, complain_again, guard_forks, hand_over, keeps, tag, tree_lock

#: Level down to which records made inside a step are kept.
KEEP_LEVEL = logging.INFO

_installs = 0


def install(modules: Iterable[str]) -> None:
    """Tag and keep the records made inside steps, until the matching :func:`uninstall`.

    ``modules`` are the modules in which blocks are defined: what their loggers say at INFO and
    above is kept whatever the application's levels are. Calls nest; they may come from any thread.
    """
    global _installs
    loggers = [logging.getLogger(name) for name in modules if isinstance(name, str)]
    guard_forks()
    with tree_lock:
        _installs += 1
        # Also when others are installed: the application may have put its own factory in their place.
        if not isinstance(logging.getLogRecordFactory(), _TaggingFactory):
            logging.setLogRecordFactory(_TaggingFactory(logging.getLogRecordFactory()))
        if _installs == 1:
            lower_blaze(KEEP_LEVEL)
        for logger in loggers:
            if logger is not logging.getLogger() and logger.name not in _block_loggers:
                _block_loggers[logger.name] = _BlockLogger(logger)


def uninstall() -> None:
    """Undo one :func:`install`; the last one restores what was there. Without an install, nothing happens."""
    global _installs
    with tree_lock:
        if _installs == 0:
            return
        _installs -= 1
        if _installs:
            return
        complain_again()
        while _block_loggers:
            _block_loggers.popitem()[1].close()
        while _filtered_loggers:
            _filtered_loggers.popitem()[1].close()
        raise_blaze(KEEP_LEVEL)
        factory = logging.getLogRecordFactory()
        while isinstance(factory, _TaggingFactory):
            factory = factory.previous
            logging.setLogRecordFactory(factory)


def let_info_through() -> None:
    """For a program of Blaze's own: without this, loggers whose levels nobody has set make no record below WARNING."""
    root = logging.getLogger()
    if not root.handlers and root.level == logging.WARNING:
        root.setLevel(KEEP_LEVEL)


class _TaggingFactory:
    """The installed log record factory. Left in place by others after the last uninstall, it adds nothing."""

    __slots__ = ("previous",)

    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self.previous = previous

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.previous(*args, **kwargs)
        context = running.get()
        if context is not None and _installs:
            try:
                # Two of us may stand in one chain. And a record without a name was made elsewhere
                # and is only being rebuilt here (logging.makeLogRecord).
                if type(record.__dict__) is not Tags and record.name:
                    tags = tag(context, record)
                    if keeps(context) and _is_filtered(record.name):
                        tags.waits_for = context
                    else:
                        hand_over(context, record)
            except Exception:  # a previous factory's own kind of record: it stays as it is
                complain()
        return record


# --- loggers of block modules ---


class _BlockLogger:
    """The logger of a block's module, open down to INFO while a step runs.

    Its level is left alone: children would inherit a lower one and flood the application's
    handlers, and it would be seen outside steps. Instead ``isEnabledFor`` of this one logger says
    yes more often inside a step, and a filter, the first in line, keeps what only that let through
    from every handler. Both ask the logger's own answer each time, so that whatever the application
    changes meanwhile counts at once.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._overridden = vars(logger).get("isEnabledFor")  # somebody else's patch
        self._own_answer: Callable[[int], bool] = logger.isEnabledFor
        self._patch = self.is_enabled_for
        vars(logger)["isEnabledFor"] = self._patch
        logger.filters.insert(0, self)

    def close(self) -> None:
        self._logger.removeFilter(self)
        attributes = vars(self._logger)
        if attributes.get("isEnabledFor") is self._patch:
            if self._overridden is None:
                del attributes["isEnabledFor"]
            else:
                attributes["isEnabledFor"] = self._overridden

    def is_enabled_for(self, level: int) -> bool:
        if self._own_answer(level):
            return True
        return (
            level >= KEEP_LEVEL
            and _installs > 0
            and keeps(running.get())
            and not self._logger.disabled
            and self._logger.manager.disable < level
        )

    def filter(self, record: logging.LogRecord) -> bool:
        tags: Any = record.__dict__
        waits = type(tags) is Tags and tags.waits_for is not None  # the filters behind this one have to see it
        return waits or not keeps(running.get()) or self.shows(record.levelno)

    def shows(self, level: int) -> bool:
        """Whether the application's levels let it through."""
        return self._own_answer(level)


_block_loggers: Dict[str, _BlockLogger] = {}


# --- loggers with filters ---


class _FilteredLogger:
    """A logger that has filters of the application, which may mask what must not be kept, or drop it.

    Its ``handle`` does what that of ``logging.Logger`` does, and hands the record over between
    the filters and the handlers.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._patch = self.handle
        vars(logger)["handle"] = self._patch

    def close(self) -> None:
        attributes = vars(self._logger)
        if attributes.get("handle") is self._patch:
            del attributes["handle"]

    def handle(self, record: logging.LogRecord) -> None:
        logger = self._logger
        tags: Any = record.__dict__
        context = tags.waits_for if type(tags) is Tags else None
        if context is None:
            logging.Logger.handle(logger, record)
        elif not logger.disabled:
            passed: Any = logger.filter(record)
            tags.waits_for = None
            if passed:
                record = passed if isinstance(passed, logging.LogRecord) else record  # since Python 3.12
                hand_over(context, record)
                block_logger = _block_loggers.get(logger.name)
                if block_logger is None or block_logger.shows(record.levelno):
                    logger.callHandlers(record)


_filtered_loggers: Dict[str, _FilteredLogger] = {}


def _is_filtered(name: str) -> bool:
    """Whether the logger of this name hands its records over itself, after its filters. Made so if it has any."""
    logger: Any = logging.root if name == logging.root.name else logging.root.manager.loggerDict.get(name)
    if not isinstance(logger, logging.Logger) or all(isinstance(one, _BlockLogger) for one in logger.filters):
        return False
    patch = vars(logger).get("handle")
    # Only in place of what it does the same as: not of a subclass's handle, nor of somebody else's patch.
    if patch is None and getattr(type(logger).handle, "__globals__", None) is vars(logging):
        with tree_lock:
            if _installs and "handle" not in vars(logger):
                _filtered_loggers[name] = _FilteredLogger(logger)
        patch = vars(logger).get("handle")
    return isinstance(getattr(patch, "__self__", None), _FilteredLogger)


# --- the logger "blaze" ---


class _Lowered(int):
    """A logger's level set by Blaze; ``before`` is the application's."""

    before: int

    def __new__(cls, level: int, before: int) -> _Lowered:
        self = super().__new__(cls, level)
        self.before = before
        return self


class _Relayed(int):
    """Stands in ``blaze.propagate`` while the relay propagates in its place.

    It counts as False, yet is not ``False``: what the application assigns meanwhile, be it True or
    False, is told apart and obeyed. Without the relay, which ``dictConfig`` may remove, it counts as True.
    """

    def __bool__(self) -> bool:
        return _relay not in logging.getLogger("blaze").handlers


_RELAYED = cast(bool, _Relayed())

_demands: List[int] = []


def lower_blaze(level: int) -> None:
    """Let ``blaze`` and the loggers below it make records down to ``level``, until :func:`raise_blaze`.

    Handlers of ``blaze`` itself see them all; those of the root logger see what they would have
    seen without. A level that is low enough already stays as it is.
    """
    with tree_lock:
        _demands.append(level)
        _adjust()


def raise_blaze(level: int) -> None:
    """Withdraw one demand of :func:`lower_blaze`; after the last one all is as the application has it."""
    with tree_lock:
        if level in _demands:
            _demands.remove(level)
            _adjust()


def _adjust() -> None:
    blaze = logging.getLogger("blaze")
    own = blaze.level.before if isinstance(blaze.level, _Lowered) else blaze.level
    effective = own or (blaze.parent.getEffectiveLevel() if blaze.parent else logging.WARNING)
    wanted = min(_demands) if _demands else effective
    if wanted < effective:
        if blaze.propagate:
            # In this order no record is shown twice: the relay is silent until it is in charge.
            blaze.addHandler(_relay)
            blaze.propagate = _RELAYED
        if blaze.level != wanted or not isinstance(blaze.level, _Lowered):
            blaze.setLevel(_Lowered(wanted, own))
    else:
        if isinstance(blaze.level, _Lowered):
            blaze.setLevel(own)
        if blaze.propagate is _RELAYED:
            blaze.propagate = True
        blaze.removeHandler(_relay)


class _Relay(logging.Handler):
    """Stands in for the propagation of ``blaze`` while its level is lowered.

    Only a lower level reaches loggers that do not exist yet (``blaze.run.<seq>.<step>``), and only
    here can their records be held back from the root logger's handlers.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        # Without the handler's lock: what is called from here takes the locks of other handlers.
        blaze = logging.getLogger("blaze")
        above = blaze.parent
        if blaze.propagate is _RELAYED and above is not None:
            nodes = _nodes_from(record.name, blaze)
            # Without any handler, logging's last resort shows warnings: exactly if it would have.
            if _application_level(nodes, above) <= record.levelno and (above.hasHandlers() or _bare(nodes)):
                above.callHandlers(record)
        return True


_relay = _Relay()


def _nodes_from(name: str, top: logging.Logger) -> List[logging.Logger]:
    """The logger of this name, its parent and so on up to ``top``."""
    node = top.manager.loggerDict.get(name)  # not getLogger: a foreign record must not create a logger
    nodes: List[logging.Logger] = []
    while isinstance(node, logging.Logger) and node is not top:
        nodes.append(node)
        node = node.parent
    return [*nodes, top] if node is top else [top]


def _application_level(nodes: List[logging.Logger], above: logging.Logger) -> int:
    for node in nodes:
        level = node.level.before if isinstance(node.level, _Lowered) else node.level
        if level:
            return level
    return above.getEffectiveLevel()


def _bare(nodes: List[logging.Logger]) -> bool:
    return not any(handler is not _relay for node in nodes for handler in node.handlers)


def application_listens(own: Callable[[logging.Handler], bool]) -> bool:
    """Whether a handler of the application is on ``blaze`` or above; ``own`` tells Blaze's from others."""
    node: Optional[logging.Logger] = logging.getLogger("blaze")
    while node is not None:
        for handler in node.handlers:
            if handler is not _relay and not isinstance(handler, logging.NullHandler) and not own(handler):
                return True
        node = node.parent if node.propagate or node.propagate is _RELAYED else None
    return False
