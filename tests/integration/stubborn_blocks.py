"""Blocks that do not end by themselves, each stuck in another way. In this process, :func:`release` lets them go."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time

_free = threading.Event()
_peers = []

#: Seconds that a block sleeps which nobody can wake.
SLEEP = 0.8


def release():
    """Let all go that are stuck, for good: the next test begins anew."""
    global _free
    _free.set()
    _free = threading.Event()
    while _peers:
        _peers.pop().close()


def say(witness):
    """Tell another process that the block runs, and in which one."""
    if witness is not None:
        with open(f"{witness}.part", "w") as file:
            file.write(str(os.getpid()))
        os.replace(f"{witness}.part", witness)


def busy(witness=None):
    """In bytecode: an exception can be raised into it."""
    free = _free
    say(witness)
    while not free.is_set():
        pass
    return "late"


def sleeping(witness=None):
    """In a C call that ends by itself."""
    say(witness)
    time.sleep(SLEEP)
    return "late"


def waiting(witness=None):
    """For a lock."""
    free = _free
    say(witness)
    free.wait(60)
    return "late"


def receiving(witness=None):
    """In a system call."""
    mine, peer = socket.socketpair()
    _peers.append(peer)
    say(witness)
    with mine:
        mine.recv(1)
    return "late"


def swallowing(witness=None):
    """Whatever is raised into it is swallowed."""
    free = _free
    say(witness)
    while not free.is_set():
        try:
            while not free.is_set():
                time.sleep(0.001)
        except BaseException:
            continue
    return "late"


async def awaiting():
    """The way an async block should wait."""
    await asyncio.sleep(60)
    return "late"


async def clinging():
    """Swallows its cancellation."""
    free = _free
    while not free.is_set():
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            continue
    return "late"


async def blocking():
    """Keeps the whole event loop from running."""
    time.sleep(SLEEP)
    return "late"


def crash():
    """End the process, as a fault in C code would."""
    os._exit(3)


def pid():
    """The process it runs in."""
    return os.getpid()
