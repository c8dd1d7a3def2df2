"""How a log record becomes text or JSON, whatever the record holds.

What comes out is safe to print and to parse: control characters are escaped, so that a
message can neither steer a terminal nor pass for another record; messages and tracebacks
are bounded, and URLs lose their credentials; an object that can't be shown costs its own
text and nothing else.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from datetime import datetime, timezone
from typing import Any, Dict, Optional, Union

from .masking import mask_urls

#: Longest message and longest traceback of one record, in UTF-8 bytes before escaping.
MAX_TEXT = 64 * 1024

#: Longest name (logger, sequence, step) shown, in UTF-8 bytes before escaping.
MAX_NAME_SHOWN = 256

#: What the further lines of a record begin with; no record begins so.
INDENT = "    "

#: Digits of a run id that a text line shows.
RUN_PREFIX = 8

# Everything a terminal or an editor may act upon: C0 (without tab and newline), DEL, C1, line
# separators, marks that change the direction of text, zero-width marks; and lone surrogates,
# which UTF-8 can't carry.
# Patterns as text: compiled, by ``re`` itself, when the first text needs it.
_UNSAFE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
_UNSAFE_IN_A_NAME = _UNSAFE[:-1] + "\t\n]"
_SURROGATE = "[\ud800-\udfff]"


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def escape(text: str) -> str:
    """``text`` with control characters as ``\\x1b`` and the like; tabs and newlines stay."""
    return text if text.isprintable() else re.sub(_UNSAFE, _escaped, text)


def escape_name(text: str) -> str:
    """Like :func:`escape`, on one line: tabs and newlines are escaped as well."""
    return text if text.isprintable() else re.sub(_UNSAFE_IN_A_NAME, _escaped, text)


def clip(text: str, limit: int = MAX_TEXT, keep_end: int = 0) -> str:
    """``text``, at most ``limit`` bytes of UTF-8; the last ``keep_end`` of them are of its end."""
    if len(text) * 4 <= limit:
        return text
    # Sliced first: what is encoded is bounded, however long the text is.
    head = text[:limit].encode("utf-8", "backslashreplace")
    if len(text) <= limit and len(head) <= limit:
        return text
    mark = f"... [clipped: {len(text)} characters in all]"
    if keep_end:
        mark += "\n"
        tail = text[-keep_end:].encode("utf-8", "backslashreplace")[-keep_end:].decode("utf-8", "ignore")
    else:
        tail = ""
    room = max(0, limit - len(mark) - keep_end)
    return head[:room].decode("utf-8", "ignore") + mark + tail


def text_of(thing: object, limit: int = MAX_TEXT) -> str:
    """``str(thing)``, clipped; if that fails, what failed."""
    try:
        return clip(str(thing), limit)
    except Exception as error:  # the object's own __str__: anything may come out
        return f"<{type(thing).__name__} that can't be shown: {type(error).__name__}>"


def message_of(record: logging.LogRecord) -> str:
    """The record's message with its arguments, without URLs' credentials, clipped and not yet escaped. Never raises."""
    try:
        return clip(mask_urls(record.getMessage()))
    except Exception as error:
        return f"{text_of(getattr(record, 'msg', ''))} [arguments not shown: {text_of(error, 1024)}]"


def traceback_of(record: logging.LogRecord) -> str:
    """The record's traceback and stack, clipped in the middle and not yet escaped, or ``""``. Never raises."""
    parts = []
    try:
        exc_info: Any = record.exc_info
        if isinstance(exc_info, tuple) and exc_info[0] is not None:
            parts.append("".join(traceback.format_exception(*exc_info)))
        elif record.exc_text:  # came through a queue or a socket, formatted
            parts.append(str(record.exc_text))
        if record.stack_info:
            parts.append(str(record.stack_info))
    except Exception as error:
        parts.append(f"[traceback not shown: {type(error).__name__}]")
    if not parts:
        return ""
    # The end of a traceback names the exception: it is kept.
    return clip(mask_urls("\n".join(part.rstrip("\n") for part in parts)), keep_end=MAX_TEXT // 2)


def _time_of(record: logging.LogRecord) -> datetime:
    try:
        return datetime.fromtimestamp(record.created, timezone.utc)
    except Exception:  # no number, not finite, out of range
        return datetime.fromtimestamp(time.time(), timezone.utc)


def _name(thing: object) -> str:
    return escape_name(text_of(thing, MAX_NAME_SHOWN))


class TextFormatter(logging.Formatter):
    """One record a line; further lines of message and traceback are indented.

    Local time with its offset, level, the step (``seq/step#attempt run``) or else the
    logger, and the message::

        2026-11-22 14:05:01.123+01:00 INFO     etl/clean#1 3fa9c2d1: 120 rows read
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, without a newline at the end. Never raises, and leaves the record as it is."""
        text = message_of(record)
        trace = traceback_of(record)
        if trace:
            text = f"{text}\n{trace}"
        if "\n" in text:
            text = text.replace("\r\n", "\n").strip("\n").replace("\n", "\n" + INDENT)
        when = _time_of(record).astimezone().isoformat(" ", "milliseconds")
        return f"{when} {_name(record.levelname):<8} {_place(record)}: {escape(text)}"


def _place(record: logging.LogRecord) -> str:
    tags = record.__dict__
    seq_id, step, run_id, attempt = (tags.get(tag) for tag in ("seq_id", "step", "run_id", "attempt"))
    place = _name(seq_id) if seq_id is not None else ""
    if step is not None:
        place += f"/{_name(step)}"
        if attempt is not None:
            place += f"#{_name(attempt)}"
    if run_id is not None:
        place += f" {_name(run_id)[:RUN_PREFIX]}"
    return place.strip() or _name(record.name)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, ASCII only.

    ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, ``seq_id``, ``run_id``,
    ``step``, ``attempt`` (null outside a step), and ``exc``, the traceback, when there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, without a newline. Never raises, and leaves the record as it is."""
        tags = record.__dict__
        line: Dict[str, Union[str, int, None]] = {
            "time": _time_of(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _json_text(text_of(record.levelname, MAX_NAME_SHOWN)),
            "logger": _json_text(text_of(record.name, MAX_NAME_SHOWN)),
            "message": _json_text(message_of(record)),
            "seq_id": _json_tag(tags.get("seq_id")),
            "run_id": _json_tag(tags.get("run_id")),
            "step": _json_tag(tags.get("step")),
            "attempt": _json_tag(tags.get("attempt")),
        }
        trace = traceback_of(record)
        if trace:
            line["exc"] = _json_text(trace)
        # ASCII: json escapes every character that a terminal might act upon.
        return json.dumps(line)


def _json_text(text: str) -> str:
    # json would write a lone surrogate as it is; strict readers refuse the whole line for it.
    return text if text.isascii() else re.sub(_SURROGATE, _escaped, text)


def _json_tag(value: object) -> Optional[Union[str, int]]:
    if value is None or (type(value) is int and abs(value) < 1 << 53):
        return value
    return _json_text(text_of(value, MAX_NAME_SHOWN))
