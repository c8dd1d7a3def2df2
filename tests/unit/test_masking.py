"""Credentials in URLs are shown nowhere: not in a failure, a fault, a preview or a line of a log."""

from __future__ import annotations

import logging
import time
from typing import Any, List

import pytest

from blaze.core.do.failure import describe, show_arguments, tell_stack, user_frames
from blaze.core.ground.errors import Fault
from blaze.core.ground.log_format import message_of, traceback_of
from blaze.core.ground.masking import LONG_USER, WINDOW, mask_urls
from blaze.core.remember.codec import preview
from blaze.core.what.checker import at_key
from blaze.core.what.conversion import convert

URL = "postgresql://etl:hunter2@db.example.com:5432/sales?sslmode=require"
MASKED = "postgresql://etl:***@db.example.com:5432/sales?sslmode=require"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (URL, MASKED),
        ("redis://:hunter2@cache", "redis://:***@cache"),
        ("amqp://a:hunter2@one,amqp://b:hunter2@two", "amqp://a:***@one,amqp://b:***@two"),
        ("mongodb://a:hunter2@one:27017,two:27017/db", "mongodb://a:***@one:27017,two:27017/db"),
        ("('ftp://a:hunter2@host/x', 'me@home')", "('ftp://a:***@host/x', 'me@home')"),
        # What should have been quoted.
        ("mysql://a:hunter2/hunter3@host/db", "mysql://a:***@host/db"),
        ("mysql://a:hunter2@hunter3@host/db", "mysql://a:***@host/db"),
        ("mysql://a:hunter2#'hunter3@host/db", "mysql://a:***@host/db"),
        ("mysql://a:1234hunter2@host/db", "mysql://a:***@host/db"),
        ("mysql://a:@host/db", "mysql://a:***@host/db"),
        # A token as the name.
        (f"https://{'h' * LONG_USER}@github.com/x", "https://***@github.com/x"),
        (f"https://{'h' * LONG_USER}:x-oauth-basic@github.com/x", "https://***:***@github.com/x"),
        # Parameters, also without their host, as HTTP clients tell them.
        ("url: /v1?api_key=hunter2&page=3 (Caused by", "url: /v1?api_key=***&page=3 (Caused by"),
        ("https://h/cb#access_token=hunter2", "https://h/cb#access_token=***"),
        ("https://h/b?X-Amz-Signature=hunter2&sig=hunter3", "https://h/b?X-Amz-Signature=***&sig=***"),
        ("https://h/b?Subscription-Key=hunter2", "https://h/b?Subscription-Key=***"),
        ("Server=h;UID=sa;PWD=hunter2;Database=d", "Server=h;UID=sa;PWD=***;Database=d"),
    ],
)
def test_what_is_secret_in_a_url_is_masked(text: str, masked: str) -> None:
    assert mask_urls(text) == masked
    assert "hunter" not in masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no URL: a=b, c@d",
        "https://example.com/a?b=c&d=e@f#g",
        "http://host:8080/path?mail=me@home",
        "http://host:8080 and me@home",
        "http://[::1]:8080/me@home",
        "ssh://git@github.com/x",
        "git@github.com:x/y.git",
        "monkey=1&keyboard=2?design=3",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert mask_urls(text) == text


@pytest.mark.parametrize(
    "part", ["://a:b", "://", "?token=", "a", ":@", "://a:b@", "?a=b&", "'", "@", f"://a:{'b' * 1000} "]
)
def test_no_text_takes_long(part: str) -> None:
    text = part * (64 * 1024 // len(part))
    started = time.process_time()
    mask_urls(text)
    assert time.process_time() - started < 1


class Engine:
    def __repr__(self) -> str:
        return f"Engine({URL})"


@pytest.mark.parametrize(
    "value",
    [
        URL,
        URL.encode(),
        bytearray(URL.encode()),
        [URL],
        {"url": URL},
        {URL: 1},
        (1, (URL,)),
        Engine(),
        "é" + URL,
        f"{'x' * 40} {URL}",
        f"postgresql://etl:{'hunter2' * 100}@db",
        URL + " " * WINDOW * 3 + URL,
        URL.encode() + bytes(10_000),
        f"{'x' * WINDOW * 3}{URL}",
    ],
    ids=lambda value: f"{type(value).__name__} of {len(str(value))}",
)
def test_neither_a_preview_nor_an_argument_shows_it(value: Any) -> None:
    assert "hunter" not in preview(value)
    assert "hunter" not in show_arguments({"source": value})
    faults: List[Fault] = []
    convert(value, float, at_key("step.urls", URL), faults)
    assert faults and "hunter" not in str(faults)


def test_a_picture_of_a_url_is_otherwise_what_it_was() -> None:
    assert preview(URL) == repr(MASKED)
    assert preview(URL.encode()) == repr(MASKED.encode())
    assert preview([URL, 1]) == f"['{MASKED}', 1]"
    assert preview(memoryview(URL.encode())).startswith("<memory at")


def fail() -> None:
    try:
        raise OSError(f"no route to {URL}")
    except OSError as error:
        raise ValueError(f"GET /rows?token=hunter2: {error}") from error


def test_a_failure_shows_it_neither_in_its_message_nor_in_its_traceback() -> None:
    with pytest.raises(ValueError, match="no route") as caught:
        fail()
    story = str(describe(caught.value, "fetch", 1, 1, {"url": URL}))
    assert "hunter2" not in story
    assert story.count(f"no route to {MASKED}") == 3 and story.count("?token=***") == 3
    error = TimeoutError(URL)
    tell_stack(error, f"Traceback (most recent call last):\n  connect({URL!r})\n")
    assert "hunter2" not in user_frames(error) and MASKED in user_frames(error)


def test_a_log_line_shows_it_neither_in_its_message_nor_in_its_traceback() -> None:
    try:
        fail()
    except ValueError as error:
        record = logging.LogRecord("etl", logging.ERROR, "", 0, "no rows from %s", (URL,), (ValueError, error, None))
    assert message_of(record) == f"no rows from {MASKED}"
    assert "hunter2" not in traceback_of(record) and MASKED in traceback_of(record)
