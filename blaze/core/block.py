"""`BlazeBlock`: the registry in which functions become blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple, Type, TypeVar, Union, overload

from .ground.errors import Fault, ValidationError
from .ground.names import did_you_mean, name_fault, place_of_caller
from .what.blocks import Block, block_faults, first_line, is_same_function
from .what.naming import quoted

__all__ = ["BlazeBlock", "Block"]

F = TypeVar("F", bound=Callable[..., Any])


class BlazeBlock(Mapping[str, Block]):
    """A registry of blocks, by name.

    ::

        blocks = BlazeBlock()

        @blocks.block(tags=["extract"], retries=3, retry_delay=30)
        def fetch(endpoint: str, limit: int = 100) -> list:
            "Fetch rows from the API."
            ...

    The decorator returns the function itself: ``fetch("x")`` calls it, and type
    checkers see its signature.
    """

    def __init__(self) -> None:
        self._blocks: Dict[str, Block] = {}
        #: Grows with every registration; plans made from an older version are made again.
        self.version = 0

    @overload
    def block(self, name: F) -> F: ...

    @overload
    def block(
        self,
        name: Optional[str] = None,
        *,
        description: str = "",
        tags: Iterable[str] = (),
        data_model: Optional[type] = None,
        retries: Optional[int] = None,
        retry_delay: Optional[float] = None,
        timeout: Optional[float] = None,
        retry_backoff: float = 1.0,
        retry_max_delay: float = 3600.0,
        retry_jitter: float = 0.0,
        retry_on: Union[Type[BaseException], Tuple[Type[BaseException], ...]] = (Exception,),
        executor: str = "thread",
        persist_result: bool = True,
    ) -> Callable[[F], F]: ...

    def block(self, name: Any = None, **settings: Any) -> Any:
        """Register the decorated function as a block.

        :param name: default: the function's name.
        :param description: default: the first line of the docstring.
        :param tags: any words to find the block by.
        :param data_model: a dataclass, or a class with ``model_validate`` such as a
            pydantic model, that the keyword arguments have to fit.
        :param retries: further attempts after a failed one; None: the sequence's setting.
        :param retry_delay: seconds before the first retry; None: the sequence's setting.
        :param timeout: seconds for one attempt; None: no limit but the run's.
        :param retry_backoff: factor from one delay to the next.
        :param retry_max_delay: longest delay, in seconds.
        :param retry_jitter: fraction by which a delay is spread, 0.2 for ± 20 %.
        :param retry_on: the exceptions after which there is a retry.
        :param executor: ``"thread"``; ``"process"`` for a process of its own that can be
            killed; or the name of an executor that was given to the scheduler.
        :param persist_result: False keeps the output out of the state file; a resumed
            run whose open steps need it runs the block again.

        Raises :class:`ValidationError` for settings that are not valid, and for a name
        that another function has. The same function registered again (a reloaded
        module, a notebook cell) replaces the earlier registration.
        """
        place = place_of_caller(1)
        for setting in settings:
            if setting not in _SETTINGS:
                raise TypeError(f"block() has no setting {setting!r}{did_you_mean(setting, _SETTINGS)} ({place})")
        if callable(name):
            return self._register(name, None, place, settings)

        def decorate(function: F) -> F:
            return self._register(function, name, place, settings)

        return decorate

    def _register(self, function: F, name: Optional[str], place: str, settings: Dict[str, Any]) -> F:
        shown = name if name is not None else getattr(function, "__name__", None)
        where = f"block {quoted(shown)} ({place})"
        settings = dict(settings)
        if not settings.get("description"):
            settings["description"] = first_line(function)
        tags = settings.get("tags", ())
        if isinstance(tags, (list, set, frozenset)):
            settings["tags"] = tuple(tags)
        retry_on = settings.get("retry_on")
        if isinstance(retry_on, (type, list)):
            settings["retry_on"] = (retry_on,) if isinstance(retry_on, type) else tuple(retry_on)
        block = Block(name=shown, function=function, place=place, **settings)  # type: ignore[arg-type]
        faults = block_faults(block, where)
        fault = name_fault(shown)
        if fault:
            nameless = "the function's own name is none that a block can have; give one with name=..."
            faults.insert(0, Fault(where, nameless if name is None else fault))
        known = self._blocks.get(shown) if isinstance(shown, str) else None
        if known is not None and not is_same_function(function, place, known.function, known.place):
            taken = f"the name is taken by the block at {known.place}; choose another with name=..."
            faults.append(Fault(where, taken))
        if faults:
            raise ValidationError(faults, where)
        self._blocks[block.name] = block
        self.version += 1
        return function

    def include(self, block: Block) -> None:
        """Register a block of another registry. Raises :class:`ValidationError` if its name is another one's."""
        known = self._blocks.setdefault(block.name, block)
        if known is not block:
            where = f"block {quoted(block.name)} ({block.place})"
            taken = f"the name is taken by the block at {known.place}; choose another with name=..."
            raise ValidationError([Fault(where, taken)], where)
        self.version += 1

    def __getitem__(self, name: str) -> Block:
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return f"<BlazeBlock of {len(self)} blocks>"


_SETTINGS = frozenset(Block.__init__.__kwdefaults__ or ())
