"""What the words of an error message tell about each other, in English.

Used by `templates` to tell names from wording where too few messages are there for
counting to tell.
"""

from __future__ import annotations

import re

__all__ = ["STOP_WORDS", "is_function_word", "is_identifier", "names_follow"]

_IDENTIFIER = re.compile(r"[a-z0-9][A-Z]|[\w>][_\-./@][\w<]|^\w+\(\)")
_EXCEPTION = re.compile(r"(?:Error|Exception|Failure|Fault|Warning|Timeout)\W*$")
_MARKS = "\"'`()[]{}<>:,;.!?="


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAMING_NOUNS = _words(
    "user username account host hostname server node model deployment tool function method "
    "field column parameter argument attribute table collection index database schema bucket "
    "queue topic region zone role team tenant agent project namespace organization service "
    "device driver interface module package class key named called provider endpoint upstream "
    "category job task worker pod container cluster partition shard file directory environment "
    "workflow chain step plugin component variable option feature"
)
"""Nouns that the name of one of their kind follows."""

_GRAMMAR = _words(
    "a an the this that these those is are was were be been being has have had do does did "
    "must may can could should will would cannot can't not no in on at to of for from with by "
    "and or but as if when while than then it its already only"
)

_FUNCTION_WORDS = _GRAMMAR | _words(
    "exists exist failed fails unknown found missing invalid limit error exceeded unavailable "
    "overloaded"
)
"""Words that go on with the sentence after such a noun, instead of naming something."""

STOP_WORDS = _GRAMMAR | _words(
    "your you we our please per which after before over under too more most via"
)
"""Words that say nothing about the subject of a message."""


def is_identifier(word: str) -> bool:
    """Return whether a word looks like a name in a program: `snake_case`, `kebab-case`, `a.b`.

    The type of an exception is none: it tells one kind of failure from another.
    """
    return _IDENTIFIER.search(word) is not None and _EXCEPTION.search(word) is None


def names_follow(word: str) -> bool:
    """Return whether a word is a noun that introduces a name: `user`, `table`, `Tool`."""
    return word.strip("\"'(`[").rstrip("'\"").lower() in _NAMING_NOUNS


def is_function_word(word: str) -> bool:
    """Return whether a word goes on with the sentence: no name."""
    return word.strip(_MARKS).lower() in _FUNCTION_WORDS
