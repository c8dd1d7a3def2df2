"""What Blaze itself logs from its loops: a handler of the application that raises stops none of them."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, MutableMapping, Tuple

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    _Adapter: TypeAlias = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

#: How far above is the caller, who is to be named in the record. Python 3.11 ceased to count frames of ``logging``.
_FRAMES = 2 if sys.version_info >= (3, 11) else 3


class OwnLog(_Adapter):
    """The logger ``blaze.<name>``; its methods never raise.

    ``logging`` contains failures only of handlers that call ``handleError`` themselves, and many
    of an application's do not.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(f"blaze.{name}"), {})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> Tuple[Any, MutableMapping[str, Any]]:
        """As they are."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log ``msg % args``; what a handler raises is told on stderr, where ``logging`` tells such things."""
        try:
            super().log(level, msg, *args, stacklevel=_FRAMES, **kwargs)
        except Exception:
            logging.Handler().handleError(logging.makeLogRecord({"msg": str(msg), "args": args}))
