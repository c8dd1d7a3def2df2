"""A block: a function and what Blaze was told about it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple, Type

from ..ground.errors import Fault
from .conversion import hints_of
from .options import check_count, check_delay, check_fraction, check_timeout

#: Executors that need no registration.
BUILT_IN_EXECUTORS = ("thread", "process")


@dataclass(frozen=True)
class Signature:
    """The parameters of a block by name."""

    #: Those that may be given by name, in order.
    accepted: Tuple[str, ...]
    #: Those of them that have no default.
    required: Tuple[str, ...]
    #: ``**kwargs``: any other name is accepted too.
    open: bool
    #: Resolved annotations.
    hints: Dict[str, Any]
    #: Positional-only parameters without a default: they can't be given by name.
    unnamed: Tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """A registered function with its settings; ``None`` means the sequence's setting."""

    name: str
    function: Callable[..., Any]
    #: ``file:line`` of the decorator.
    place: str
    description: str = ""
    tags: Tuple[str, ...] = ()
    data_model: Optional[type] = None
    retries: Optional[int] = None
    #: Seconds.
    retry_delay: Optional[float] = None
    #: Seconds for one attempt.
    timeout: Optional[float] = None
    retry_backoff: float = 1.0
    #: Seconds.
    retry_max_delay: float = 3600.0
    #: Fraction of the delay: 0.2 spreads it by ± 20 %.
    retry_jitter: float = 0.0
    retry_on: Tuple[Type[BaseException], ...] = (Exception,)
    executor: str = "thread"
    persist_result: bool = True
    _cache: List[Signature] = field(default_factory=list, repr=False)

    @property
    def is_async(self) -> bool:
        """Whether the block is an ``async def`` function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def signature(self) -> Signature:
        """The function's parameters; read when they are first needed, not at import."""
        if not self._cache:
            self._cache.append(_read_signature(self.function, self.data_model))
        return self._cache[0]

    def replaces(self, earlier: Block) -> bool:
        """Whether this is the same function again: its module reloaded, its notebook cell run anew.

        A second function that was given the same name by mistake stands on another line.
        """
        mine, theirs = self.function, earlier.function
        if mine is theirs:
            return True
        names = [(getattr(f, "__module__", None), getattr(f, "__qualname__", "<lambda>")) for f in (mine, theirs)]
        if names[0] != names[1] or "<lambda>" in names[0][1]:
            return False
        return self.place == earlier.place or all(_in_notebook(block.place) for block in (self, earlier))


def _in_notebook(place: str) -> bool:
    return place.startswith(("<ipython-input", "<stdin>")) or "ipykernel_" in place


def _read_signature(function: Callable[..., Any], data_model: Optional[type]) -> Signature:
    accepted: List[str] = []
    required: List[str] = []
    unnamed: List[str] = []
    is_open = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            if parameter.default is parameter.empty:
                unnamed.append(parameter.name)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            accepted.append(parameter.name)
            if parameter.default is parameter.empty:
                required.append(parameter.name)
    if data_model is not None:
        optional = _fields_with_default(data_model)
        required = [name for name in required if name not in optional]
    return Signature(tuple(accepted), tuple(required), is_open, hints_of(function), tuple(unnamed))


def _fields_with_default(model: type) -> FrozenSet[str]:
    """Names that the model fills in by itself when they are not given."""
    pydantic_fields = getattr(model, "model_fields", None)
    if isinstance(pydantic_fields, dict):
        return frozenset(name for name, item in pydantic_fields.items() if not item.is_required())
    from dataclasses import MISSING, fields, is_dataclass

    if not is_dataclass(model):
        return frozenset()
    return frozenset(
        item.name for item in fields(model) if item.default is not MISSING or item.default_factory is not MISSING
    )


def block_faults(block: Block, where: str) -> List[Fault]:
    """Everything that is wrong with a block's settings by themselves."""
    faults: List[Fault] = []

    def fault(what: Optional[str]) -> None:
        if what:
            faults.append(Fault(where, what))

    function = block.function
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        fault("a generator function would hand on a generator that nobody has run; return a list instead of yielding")
    fault(check_count("retries", block.retries, optional=True))
    fault(check_delay("retry_delay", block.retry_delay, optional=True))
    fault(check_timeout("timeout", block.timeout))
    fault(check_delay("retry_backoff", block.retry_backoff))
    fault(check_delay("retry_max_delay", block.retry_max_delay))
    fault(check_fraction("retry_jitter", block.retry_jitter))
    if not isinstance(block.retry_on, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in block.retry_on
    ):
        fault(f"retry_on is a tuple of exception classes, got {block.retry_on!r}")
    if not isinstance(block.tags, tuple) or not all(isinstance(tag, str) for tag in block.tags):
        fault(f"tags are a list of str, got {block.tags!r}")
    if not isinstance(block.description, str):
        fault(f"description is a str, got {type(block.description).__name__}")
    if not isinstance(block.persist_result, bool):
        fault(f"persist_result is True or False, got {block.persist_result!r}")
    if not isinstance(block.executor, str) or not block.executor:
        fault(f'executor is "thread", "process" or the name of an executor, got {block.executor!r}')
    elif block.executor != "thread" and block.is_async:
        fault(f'an async block runs on the event loop; executor="{block.executor}" is for plain functions')
    fault(_model_fault(block.data_model))
    return faults


def _model_fault(model: Any) -> Optional[str]:
    if model is None:
        return None
    if isinstance(model, type) and (hasattr(model, "__dataclass_fields__") or hasattr(model, "model_validate")):
        return None
    return f"data_model is a dataclass or a class with model_validate (such as a pydantic model), got {model!r}"
