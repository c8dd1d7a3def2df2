"""What people are shown of a value: a short text, made in little time, without secrets.

However large a value is, and however many paths lead to what it shares, only the first
items of its first levels are looked at. That holds for the containers of the standard
library, for dataclasses, for named tuples and for subclasses of these without a
``__repr__`` of their own; the text of any other object is what its class says.
"""

from __future__ import annotations

import collections
import reprlib
import types
from itertools import islice
from typing import Any, Dict, Iterable, List, Tuple, TypeVar

from .masking import MASK, WINDOW, is_secret, mask_ends, mask_urls

#: Largest dict and set that is put in order before its first items are shown.
_SORTED = 1000

# What is short whatever it holds; one character takes up to ten.
_ATOMS = frozenset({float, bool, type(None)})
_WIDE = 1 << 64
_SHORT = 6

# reprlib itself goes by the name of the type, which any class of the user's may bear.
_PLAIN = {
    kind: f"repr_{kind.__name__}"
    for kind in (list, tuple, dict, set, frozenset, collections.deque, str, int, bytes, bytearray, memoryview)
}
# Subclasses are known by the repr that they have inherited.
_INHERITED: Dict[Any, str] = {kind.__repr__: f"repr_{kind.__name__}" for kind in (dict, list, tuple)}
_NAMED = {kind.__repr__: f"repr_{kind.__name__}" for kind in (set, frozenset, collections.deque)}
_DICTS = frozenset(
    kind.__repr__
    for kind in (collections.OrderedDict, collections.defaultdict, collections.Counter, types.MappingProxyType)
)
_NOTHING: Dict[Any, Any] = {}
_VIEWS = frozenset(type(view).__repr__ for view in (_NOTHING.keys(), _NOTHING.values(), _NOTHING.items()))


class Picture(reprlib.Repr):
    """Makes the texts. ``shown`` is how many items of a container are, ``long`` the longest text of one object."""

    def __init__(self, levels: int, shown: int, long: int, longest_int: int) -> None:
        super().__init__()
        self.maxlevel = levels
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = shown
        self.maxarray = shown
        self.maxstring = self.maxother = long
        self.maxlong = longest_int

    def repr1(self, x: Any, level: int) -> str:
        """The text of any object."""
        kind = type(x)
        if kind in _ATOMS or (kind is int and -_WIDE < x < _WIDE) or (kind is str and len(x) < _SHORT):
            return repr(x)
        method = _PLAIN.get(kind)
        if method is not None:
            return str(getattr(self, method)(x, level))
        if kind.__module__ == "array" and kind.__name__ == "array":
            return self.repr_array(x, level)
        return self.repr_instance(x, level)

    def repr_str(self, x: str, level: int) -> str:
        """As reprlib has it, without the credentials of URLs."""
        return str(super().repr_str(mask_ends(x), level))

    def repr_bytes(self, x: Any, level: int) -> str:
        """Bytes: only what is shown is looked at."""
        return self.repr_memoryview(_without_credentials(x), level, len(x))

    repr_bytearray = repr_bytes

    def repr_memoryview(self, x: Any, level: int, size: int = -1) -> str:
        """The same without a look at what is in it."""
        size = len(x) if size < 0 else size
        return repr(x) if size <= self.maxstring else f"{x[: self.maxstring // 2]!r}... ({size} bytes)"

    def repr_int(self, x: int, level: int) -> str:
        """Integers beyond the interpreter's limit of digits are told by their size."""
        return str(super().repr_int(x, level)) if x.bit_length() < 4096 else f"<int of {x.bit_length()} bits>"

    def repr_instance(self, x: Any, level: int) -> str:
        """Anything but the plain types: its parts if it is known what they are, else its own ``repr``, clipped.

        One that fails is named, not raised.
        """
        kind = type(x)
        try:
            own: Any = kind.__repr__
            if own in _INHERITED:
                return str(getattr(self, _INHERITED[own])(x, level))
            if own in _DICTS:
                return f"{kind.__name__}({self.repr_dict(x, level)})"
            if own in _VIEWS:
                return self._items(kind.__name__, x, level)
            if own in _NAMED:
                return self._items(kind.__name__, self._in_order(x), level)
            if own is types.SimpleNamespace.__repr__:
                return self._fields("namespace", vars(x).items(), level)
            space = getattr(own, "__globals__", None)
            if space is vars(collections) and isinstance(x, tuple):
                return self._fields(kind.__name__, zip(kind._fields, x), level)
            if hasattr(kind, "__dataclass_fields__"):
                import dataclasses

                if space is vars(dataclasses) or space is vars(reprlib):  # a generated one
                    named = ((field.name, getattr(x, field.name)) for field in dataclasses.fields(x) if field.repr)
                    return self._fields(kind.__qualname__, named, level)
            text = mask_ends(repr(x))
        except BaseException as error:  # the user's code
            return f"<{kind.__name__}: repr() raised {type(error).__name__}>"
        return text if len(text) <= self.maxother else text[: self.maxother - 3] + "..."

    def repr_dict(self, x: Any, level: int) -> str:
        """As reprlib has it, but only a small dict is put in order, and secrets are masked."""
        if not x:
            return "{}"
        if level <= 0:
            return "{...}"
        shown = []
        for key in islice(self._in_order(x), self.maxdict):
            text = self.repr1(key, level - 1)
            shown.append(f"{text}: {MASK if is_secret(key) else self.repr1(x[key], level - 1)}")
        return f"{{{', '.join(shown)}{', ...' if len(x) > self.maxdict else ''}}}"

    def repr_set(self, x: Any, level: int) -> str:
        """As reprlib has it, but only a small set is put in order."""
        if not x:
            return "set()"
        return self._repr_iterable(self._in_order(x), level, "{", "}", self.maxset)  # type: ignore[no-any-return,attr-defined]

    def repr_frozenset(self, x: Any, level: int) -> str:
        """As reprlib has it, but only a small set is put in order."""
        return self._items("frozenset", self._in_order(x), level) if x else "frozenset()"

    def _in_order(self, items: Any) -> Any:
        if isinstance(items, collections.deque) or len(items) > _SORTED:
            return items
        try:
            return sorted(items)
        except Exception:  # what has no order stays in its own
            return items if isinstance(items, dict) else list(items)

    def _items(self, name: str, items: Any, level: int) -> str:
        left, right = ("([", "])") if not name.endswith("set") else ("({", "})")
        return self._repr_iterable(items, level, name + left, right, self.maxlist)  # type: ignore[no-any-return,attr-defined]

    def _fields(self, name: str, fields: Iterable[Tuple[str, Any]], level: int) -> str:
        if level <= 0:
            return f"{name}(...)"
        rest = iter(fields)
        shown: List[str] = []
        for field, value in islice(rest, self.maxdict):
            shown.append(f"{field}={MASK if is_secret(field) else self.repr1(value, level - 1)}")
        if next(rest, None) is not None:
            shown.append("...")
        return f"{name}({', '.join(shown)})"


def encodable(text: str) -> str:
    """The text as it can be printed and stored: UTF-8 has no lone surrogates, so they are written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


Bytes = TypeVar("Bytes", bytes, bytearray)


def _without_credentials(data: Bytes) -> Bytes:
    """The beginning, as far as it may be shown, without the credentials of URLs."""
    # Latin-1 has one character for each byte.
    return type(data)(mask_urls(bytes(data[:WINDOW]).decode("latin-1")).encode("latin-1"))
