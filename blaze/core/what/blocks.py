"""A block: a function and what Blaze was told about it."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Type

from ..ground.errors import Fault
from .callables import POSITIONAL_ONLY, VAR_KEYWORD, VAR_POSITIONAL, is_async, is_generator, parameters_of
from .checker import shown
from .options import check_count, check_delay, check_factor, check_flag, check_fraction, check_text, check_timeout

#: Executors that need no registration.
BUILT_IN_EXECUTORS = ("thread", "process")


class Signature(NamedTuple):
    """The parameters of a block by name: the data model's where there is one, else the function's."""

    #: Those that may be given by name, in order.
    accepted: Tuple[str, ...]
    #: Those of them that have no default.
    required: Tuple[str, ...]
    #: ``**kwargs``: any other name is accepted too.
    open: bool
    #: Resolved annotations.
    hints: Dict[str, Any]
    #: Why the function can't be called by name, or not with what its data model gives.
    faults: Tuple[str, ...] = ()


class Block:
    """A registered function with its settings, which nobody changes; ``None`` means the sequence's setting."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        place: str,
        *,
        description: str = "",
        tags: Tuple[str, ...] = (),
        data_model: Optional[type] = None,
        retries: Optional[int] = None,
        retry_delay: Optional[float] = None,
        timeout: Optional[float] = None,
        retry_backoff: float = 1.0,
        retry_max_delay: float = 3600.0,
        retry_jitter: float = 0.0,
        retry_on: Tuple[Type[BaseException], ...] = (Exception,),
        executor: str = "thread",
        persist_result: bool = True,
    ) -> None:
        self.name = name
        self.function = function
        #: ``file:line`` of the decorator.
        self.place = place
        self.description = description
        self.tags = tags
        self.data_model = data_model
        self.retries = retries
        #: Seconds.
        self.retry_delay = retry_delay
        #: Seconds for one attempt.
        self.timeout = timeout
        self.retry_backoff = retry_backoff
        #: Seconds.
        self.retry_max_delay = retry_max_delay
        #: Fraction of the delay: 0.2 spreads it by ± 20 %.
        self.retry_jitter = retry_jitter
        self.retry_on = retry_on
        self.executor = executor
        self.persist_result = persist_result

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether the block is an ``async def`` function."""
        return is_async(self.function)

    @functools.cached_property
    def signature(self) -> Signature:
        """The function's parameters; read when they are first needed, not at import."""
        return _read_signature(self.function, self.data_model)


def is_same_function(function: Any, place: str, earlier: Any, earlier_place: str) -> bool:
    """Whether a function is an earlier one again: its module reloaded, its notebook cell run anew.

    A second function that was given the same name by mistake stands on another line, or
    is another closure of the same code: made by a loop or a factory.
    """
    if function is earlier:
        return True
    names = [(getattr(f, "__module__", None), getattr(f, "__qualname__", "<lambda>")) for f in (function, earlier)]
    if names[0] != names[1] or "<lambda>" in names[0][1] or _is_other_closure(function, earlier):
        return False
    return place == earlier_place or (_in_notebook(place) and _in_notebook(earlier_place))


def _is_other_closure(function: Any, earlier: Any) -> bool:
    """Whether one ``def`` was executed twice, with other values; a reloaded module is compiled anew, to other code."""
    from inspect import unwrap

    function, earlier = unwrap(function), unwrap(earlier)
    if getattr(function, "__code__", None) is not getattr(earlier, "__code__", earlier):
        return False
    pairs = zip(_captured(function), _captured(earlier))
    return any(mine is not theirs for mine, theirs in pairs if mine is not _UNSET)


_UNSET = object()


def _captured(function: Any) -> List[Any]:
    """The values of a function's defaults and closure."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not yet assigned: the function's own name
            values.append(_UNSET)
    return values


def _in_notebook(place: str) -> bool:
    return place.startswith(("<ipython-input", "<python-input", "<stdin>")) or "ipykernel_" in place


def _read_signature(function: Callable[..., Any], model: Optional[type]) -> Signature:
    from .annotations import spell  # with what they need, a third of the import of Blaze
    from .conversion import hints_of

    try:
        parameters = parameters_of(function)
    except (TypeError, ValueError):
        unknown = "has no signature that Python can tell; wrap it in a function made with def"
        return Signature((), (), True, {}, (unknown,))
    faults: List[str] = []
    named: Dict[str, bool] = {}
    is_open = False
    for parameter in parameters:
        if parameter.kind == VAR_KEYWORD:
            is_open = True
        elif parameter.kind == POSITIONAL_ONLY:
            if parameter.required:
                faults.append(f"takes '{parameter.name}' by position only; remove the '/' from its signature")
        elif parameter.kind != VAR_POSITIONAL:
            named[parameter.name] = parameter.required
    hints = hints_of(function)
    if model is not None:
        hints.update(hints_of(model))
        taken, given = _fields_of(model)
        if taken is not None:
            spelling = spell(model)
            faults += [
                f"has no parameter '{name}', which is a field of its data_model {spelling}"
                for name in given
                if name not in named and not is_open
            ]
            faults += [
                f"needs '{name}', of which its data_model {spelling} has no field"
                for name, required in named.items()
                if required and name not in given
            ]
            named, is_open = taken, False
    required_names = tuple(name for name, required in named.items() if required)
    return Signature(tuple(named), required_names, is_open, hints, tuple(faults))


def _fields_of(model: Any) -> Tuple[Optional[Dict[str, bool]], Tuple[str, ...]]:
    """The arguments that a data model takes, with whether each is required, and the fields that it then has.

    (None, ()) for a class with ``model_validate`` that does not tell.
    """
    from .annotations import is_dataclass_type
    from .records import arguments_of

    known = getattr(model, "model_fields", None)
    if isinstance(known, Mapping):
        return {name: item.is_required() for name, item in known.items()}, tuple(known)
    if is_dataclass_type(model):
        from dataclasses import fields

        return arguments_of(model), tuple(item.name for item in fields(model))
    return None, ()


def block_faults(block: Block, where: str) -> List[Fault]:
    """Everything that is wrong with a block's settings by themselves."""
    faults: List[Fault] = []

    def fault(what: Optional[str]) -> None:
        if what:
            faults.append(Fault(where, what))

    function = block.function
    if not callable(function):
        fault(f"a block is a function, got {shown(function)}")
    elif is_generator(function):
        fault("a generator function would hand on a generator that nobody has run; return a list instead of yielding")
    fault(check_text("description", block.description))
    fault(check_count("retries", block.retries, optional=True))
    fault(check_delay("retry_delay", block.retry_delay, optional=True))
    fault(check_timeout("timeout", block.timeout))
    fault(check_factor("retry_backoff", block.retry_backoff))
    fault(check_delay("retry_max_delay", block.retry_max_delay))
    fault(check_fraction("retry_jitter", block.retry_jitter))
    fault(check_flag("persist_result", block.persist_result))
    if not isinstance(block.retry_on, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in block.retry_on
    ):
        fault(f"retry_on is a tuple of exception classes, got {shown(block.retry_on)}")
    if not isinstance(block.tags, tuple) or not all(isinstance(tag, str) for tag in block.tags):
        fault(f"tags are a list of str, got {shown(block.tags)}")
    if not isinstance(block.executor, str) or not block.executor:
        fault(f'executor is "thread", "process" or the name of an executor, got {shown(block.executor)}')
    elif block.executor != "thread" and block.is_async:
        fault(f"an async block runs on the event loop; executor={block.executor!r} is for plain functions")
    fault(_model_fault(block.data_model))
    return faults


def _model_fault(model: Any) -> Optional[str]:
    if model is None:
        return None
    if isinstance(model, type) and any(hasattr(model, mark) for mark in ("__dataclass_fields__", "model_validate")):
        return None
    return f"data_model is a dataclass or a class with model_validate (such as a pydantic model), got {shown(model)}"


def first_line(function: Any) -> str:
    """The first line of a docstring that says something."""
    while isinstance(function, functools.partial):
        function = function.func
    text = getattr(function, "__doc__", None)
    lines = text.splitlines() if isinstance(text, str) else ()
    return next((line.strip() for line in lines if line.strip()), "")
