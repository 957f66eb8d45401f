"""Masks: what differs between two messages of one kind becomes `<*>`.

One combined alternation over the whole column (as Sentry parameterises messages,
`grouping/parameterization.py`), in the order of `MASKS`; at one place the first mask that
fits wins. A word with a digit in it is a value, whatever else it is: that one rule covers
numbers, addresses with ports, hashes, UUIDs, durations, versions and most ids.

Example:
    >>> mask(pl.Series(["user 17 at 10.0.0.1:80 failed after 3.2s"])).item()
    'user <*> at <*>:<*> failed after <*>'
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

__all__ = ["MASKS", "MAX_CHARACTERS", "VERSION", "WILDCARD", "Mask", "mask"]

VERSION = 1
"""Version of the masks; part of every cluster's id, since other masks make other clusters."""

WILDCARD = "<*>"
"""What stands for a value, as in the literature on log parsing."""

MAX_CHARACTERS = 2_000
"""Characters of a message that are looked at; what follows tells no more about its kind."""

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_CLOCK = "[0-9][0-9]?:[0-9][0-9](?::[0-9][0-9](?:[.,][0-9]+)?)?"
_ZONE = "(?:[AP]M|UTC|GMT|Z|[+\\-][0-9]{2}:?[0-9]{2})"
_HEX = "[0-9A-Fa-f]{1,4}"
_NAME = "[A-Za-z0-9_.\\-@%+~$]"
_AFFIX = "[A-Za-z_.@/\\\\+%#~$&*\\-]"


class Mask(NamedTuple):
    """One kind of value."""

    name: str
    pattern: str
    """Regular expression without look-around, ASCII classes only."""
    example: str
    """A value that it masks as a whole."""


MASKS = (
    Mask(
        "url",
        r"[A-Za-z][A-Za-z0-9+.\-]{1,12}://[^\s\"'<>|]*[^\s\"'<>|.,;:)\]}]",
        "https://api.example.com/v1/chat?page=2",
    ),
    Mask(
        "email",
        r"[A-Za-z0-9_.+\-]+@[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)+",
        "ada.lovelace@example.com",
    ),
    Mask(
        "date",
        rf"(?:{_DAY},? +)?(?:{_MONTH} +[0-9][0-9]?(?:st|nd|rd|th)?|[0-9][0-9]?[ \-/]{_MONTH})"
        rf"(?:,?[ \-/]+[0-9]{{4}})?(?:[ :T]+{_CLOCK})?(?: +{_ZONE})?(?: +[0-9]{{4}})?",
        "Fri Jul  1 07:57:30 2005",
    ),
    Mask(
        "iso_time",
        rf"[0-9]{{4}}[\-/][0-9][0-9][\-/][0-9][0-9](?:[T ]{_CLOCK}{_ZONE}?)?",
        "2026-11-23 03:04:05.123Z",
    ),
    Mask(
        "quoted",
        r"'[^ '\"\n]+'|\"[^ '\"\n]+\"|`[^ `\n]+`",
        "'search_web'",
    ),
    Mask(
        "path",
        rf"(?:[A-Za-z]:)?[\\/](?:{_NAME}+[\\/]+)+(?:[A-Za-z0-9_.\-@%+~$:?=&]*[A-Za-z0-9_])?",
        "/srv/app/prompts/answer.yaml",
    ),
    Mask(
        "address",
        rf"(?-u:\b)(?:{_HEX}:){{2,}}(?::?{_HEX})+|(?-u:\b){_HEX}(?::{_HEX})*::(?:{_HEX}:)*{_HEX}",
        "fe80::ab:cd",
    ),
    Mask(
        "key",
        r"(?:sk|pk|rk|key|org|req|proj|run|asst|thread|msg|call|chatcmpl|resp|user|acct)[\-_]"
        r"(?:[A-Za-z0-9]{16,}|\*+[A-Za-z0-9]*|\.\.\.[A-Za-z0-9]+)",
        "sk-...abCd",
    ),
    Mask(
        "quantity",
        r"[0-9]+(?:[.,][0-9]+)* ?(?:bytes?|[KMGTP]i?B|B|ns|us|ms|s|secs?|seconds?|mins?|minutes?"
        r"|h|hours?|days?)(?-u:\b)",
        "317.5 KB",
    ),
    Mask("grouped_number", r"[$+\-~]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?", "1,234,567.5"),
    Mask(
        "word_with_digit",
        rf"{_AFFIX}*[0-9](?:[A-Za-z0-9_.@/\\+%#~$&*\-]*[A-Za-z0-9_])?%?",
        "req-38101a0b-2096-447d-96ea-a692162415ae",
    ),
)
"""The masks, in order."""

_ANY = "|".join(f"(?:{item.pattern})" for item in MASKS)
_KEY_QUOTES = r"""['"]([A-Za-z_][A-Za-z0-9_\-]*)['"] ?:"""
_LIST = r"<\*>(?:[ ,;|]+<\*>)+"
_QUOTED_FIELD = r"""="[^"]*"|='[^']*'"""


def mask(texts: pl.Series) -> pl.Series:
    r"""Return messages with their values masked.

    Beyond the masks: the quotes of keys in a JSON or Python object are dropped, so that
    keys stay and values go; `name="any text"` is `name=<*>`; values in a row
    (`<*>, <*> <*>`) are one, so that lists of any length look the same.

    Args:
        texts: (n,) strings; null is the empty text.

    Returns:
        (n,) strings.
    """
    cut = texts.fill_null("")
    if (cut.str.len_bytes().max() or 0) > MAX_CHARACTERS:  # type: ignore[operator]  # of integers
        cut = cut.str.slice(0, MAX_CHARACTERS)
    if cut.str.contains_any(["':", '":', "' :", '" :']).any():
        cut = cut.str.replace_all(_KEY_QUOTES, "$1:")
    masked = cut.str.replace_all(_ANY, WILDCARD)
    if masked.str.contains_any(['="', "='"]).any():
        masked = masked.str.replace_all(_QUOTED_FIELD, f"={WILDCARD}")
    return masked.str.replace_all(_LIST, WILDCARD)
