"""What is never shown: values by the names that they have, and the credentials inside URLs.

Only what people are shown of a value is masked, never the value. A secret under another name,
or in the middle of a text that is no URL, is not known for one.
"""

from __future__ import annotations

import re

#: Names of parameters, fields and dict keys whose values are never shown.
SECRET = (
    r"(?i)passw|passphrase|passcode|token|secret|api_?key|access_?key|(^|_)(key|pass|pwd)$"
    r"|credential|authorization|bearer|cookie|private"
)
#: Parameters of a URL that stand for a secret besides those: with what was signed they are one.
SIGNATURE = r"(?i)signature|(^|_)sig$"
#: What stands in place of a secret.
MASK = "***"
#: Characters from which on the name before an ``@`` is taken for a token.
LONG_USER = 20
#: Characters at each end of a long text that are looked at where only its ends are shown: more than credentials have.
WINDOW = 2048

# ``://user:password@``. A password may contain what should have been quoted; a port, which is followed by a
# path or nothing, is none. The repetitions are bounded, and end where another URL begins, so that no text takes long.
_USER = (
    r"://([^\s/?#@:\[\"<>]{0,256})"
    r"(:(?!\d{1,5}(?:[/?#]|$))(?:(?!://)[^\s@\"<>]){0,1024}(?:@[^\s@/?#\"<>]{0,1024}(?=@)){0,8})?@"
)
_PARAMETER = r"([?&#;]([^\s=?&#;'\"<>]{1,64})=)([^\s&#;'\"<>]+)"


def is_secret(name: object) -> bool:
    """Whether what has this name is not to be shown."""
    return isinstance(name, str) and re.search(SECRET, name) is not None


def mask_urls(text: str) -> str:
    """The text without the passwords and tokens of the URLs and connection strings in it.

    >>> mask_urls("no route to postgresql://etl:hunter2@db/sales?sslpassword=hunter3")
    'no route to postgresql://etl:***@db/sales?sslpassword=***'
    """
    if "://" in text:
        text = re.sub(_USER, _without_credentials, text)
    if "=" in text:
        text = re.sub(_PARAMETER, _without_value, text)
    return text


def mask_ends(text: str) -> str:
    """The same of a text of which only the beginning and the end are shown; of a long one the middle is left out."""
    if len(text) <= 2 * WINDOW:
        return mask_urls(text)
    return f"{mask_urls(text[:WINDOW])}...{mask_urls(text[-WINDOW:])}"


def _without_credentials(match: re.Match[str]) -> str:
    user, password = match.groups()
    shown = user if len(user) < LONG_USER else MASK
    return f"://{shown}@" if password is None else f"://{shown}:{MASK}@"


def _without_value(match: re.Match[str]) -> str:
    start, name, value = match.groups()
    name = name.replace("-", "_")
    return start + (MASK if is_secret(name) or re.search(SIGNATURE, name) else value)
