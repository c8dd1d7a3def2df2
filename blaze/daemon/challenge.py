"""How both ends of a TCP connection prove that they know the token, without telling it.

Each names a number that was never used before, and answers the other's with a keyed
hash: a recorded conversation is worth nothing, and whoever took over the port of a
dead daemon learns nothing (RELIABILITY P2, R50).
"""

from __future__ import annotations

import hashlib
import hmac
import os

#: Bytes of a token, and of a nonce.
LENGTH = 32

CLIENT, SERVER = "client", "server"


def new_secret() -> bytes:
    """A fresh token, or a fresh nonce."""
    return os.urandom(LENGTH)


def proof(token: bytes, who: str, challenge: str, own: str) -> str:
    """What ``who`` answers to a challenge. ``own`` is the nonce that it names itself."""
    return hmac.new(token, "\n".join((who, challenge, own)).encode(), hashlib.sha256).hexdigest()


def is_proof(given: object, expected: str) -> bool:
    """Compare in a time that tells nothing."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
