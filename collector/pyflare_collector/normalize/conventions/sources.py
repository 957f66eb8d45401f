"""The words that the convention lists are written in.

"gen_ai.request.model"                          the span attribute of that key
key("ai.model.provider", change="provider")     the same, its value changed by name
key("tool.name", when=("tool",))                the same, on spans of these types only
json("metadata", "user_id")                     a place in a document: an attribute that
                                                holds JSON text or a structured value
resource("service.name")                        an attribute of the resource
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Path", "Source", "Sources", "fields", "json", "key", "keys_of", "resource"]

Path: TypeAlias = tuple[str | int, ...]
"""Members (by name) and elements (by position) that lead into a JSON document."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that a field may come from."""

    key: str
    """Key of the attribute."""
    place: Literal["span", "resource"] = "span"
    """Whose attribute it is."""
    path: Path = ()
    """Where in the document that the attribute holds; empty for the value itself."""
    change: str = ""
    """Name of a function of `changes.CHANGES` that the value goes through."""
    when: tuple[str, ...] = ()
    """Span types that the source counts for; empty for all."""


Sources: TypeAlias = tuple[Source, ...]
"""Sources of a field, first wins."""


def fields(lists: Mapping[str, Iterable[str | Source]]) -> dict[str, Sources]:
    """Return fields with their sources; a plain text is the span attribute of that key."""
    return {
        name: tuple(Source(item) if isinstance(item, str) else item for item in items)
        for name, items in lists.items()
    }


def key(name: str, *, change: str = "", when: tuple[str, ...] = ()) -> Source:
    """Return the source "span attribute `name`"."""
    return Source(name, change=change, when=when)


def json(name: str, *path: str | int, change: str = "", when: tuple[str, ...] = ()) -> Source:
    """Return the source "member `path` of the document in span attribute `name`"."""
    return Source(name, path=path, change=change, when=when)


def resource(name: str) -> Source:
    """Return the source "resource attribute `name`"."""
    return Source(name, place="resource")


def keys_of(sources: Iterable[Source]) -> list[str]:
    """Return the attribute keys that `sources` read."""
    return [source.key for source in sources]
