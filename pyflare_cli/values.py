"""Values of settings: from a file's YAML or from text into a declared type, and back.

The types are those of the declarations: `bool`, `int`, `float`, `str`, `Literal[...]`,
`X | None`, `tuple[X, ...]`, `Mapping[str, X]` and frozen dataclasses of these. A
value that does not fit raises `ConfigError` that names the setting, the value, and
what was expected.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyflare_proto.errors import ConfigError, nearest

__all__ = ["convert", "expected", "field_types", "json_schema", "parse_text", "plain"]

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


def field_types(cls: type) -> dict[str, object]:
    """Return the resolved type of each field of a dataclass."""
    return typing.get_type_hints(cls)


def expected(declared: object) -> str:
    """Return a declared type in words, for messages and documentation."""
    origin = typing.get_origin(declared)
    arguments = typing.get_args(declared)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments if choice != "")
    if origin in (typing.Union, types.UnionType):
        return expected(next(item for item in arguments if item is not type(None)))
    if origin is tuple:
        return f"a list, each {expected(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"a mapping of names, each to {expected(arguments[1])}"
    if dataclasses.is_dataclass(declared):
        names = ", ".join(field.name for field in dataclasses.fields(declared))
        return f"a mapping with {names}"
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
    }
    return words[typing.cast("type", declared)]


def convert(value: object, declared: object, name: str) -> object:
    """Return a value of a file's YAML as the declared type.

    Args:
        value: what the YAML holds.
        declared: the type of the setting.
        name: dotted name of the setting, for messages.

    Raises:
        ConfigError: the value does not fit; names setting, value and expected type.
    """
    origin = typing.get_origin(declared)
    arguments = typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        inner = next(item for item in arguments if item is not type(None))
        return None if value is None else convert(value, inner, name)
    if origin is typing.Literal:
        return _convert_choice(value, declared, name)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(value, declared, name)
        return tuple(
            convert(item, arguments[0], f"{name}[{position}]")
            for position, item in enumerate(value)
        )
    if origin is not None:
        if not isinstance(value, Mapping):
            raise _wrong(value, declared, name)
        return {
            str(key): convert(item, arguments[1], f"{name}.{key}") for key, item in value.items()
        }
    if dataclasses.is_dataclass(declared):
        return _convert_dataclass(value, typing.cast("type", declared), name)
    return _convert_scalar(value, declared, name)


def parse_text(text: str, declared: object, name: str) -> object:
    """Return a value given as text (an environment variable, a flag, `${NAME}`) as its type.

    Lists are comma-separated or a JSON list, mappings `name=value` pairs or a JSON
    object; lists of mappings are JSON.

    Raises:
        ConfigError: the text does not fit; names setting, value and expected type.
    """
    origin = typing.get_origin(declared)
    if origin in (typing.Union, types.UnionType):
        inner = next(item for item in typing.get_args(declared) if item is not type(None))
        return None if text == "" else parse_text(text, inner, name)
    if dataclasses.is_dataclass(declared):
        return convert(_json(text, declared, name), declared, name)
    if origin is not None and origin is not typing.Literal:
        return _parse_many(text, declared, name)
    if declared in (bool, int, float):
        return convert(_parse_scalar(text, declared, name), declared, name)
    return convert(text, declared, name)


def plain(value: object) -> object:
    """Return a converted value as plain data: dataclasses as dicts, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def json_schema(declared: object) -> dict[str, object]:
    """Return the JSON Schema of a declared type."""
    origin = typing.get_origin(declared)
    arguments = typing.get_args(declared)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        inner = next(item for item in arguments if item is not type(None))
        return {"anyOf": [json_schema(inner), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": json_schema(arguments[0])}
    if origin is not None:
        return {"type": "object", "additionalProperties": json_schema(arguments[1])}
    if dataclasses.is_dataclass(declared):
        hints = field_types(typing.cast("type", declared))
        return {
            "type": "object",
            "properties": {name: json_schema(item) for name, item in hints.items()},
            "additionalProperties": False,
        }
    names = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
    return {"type": names[typing.cast("type", declared)]}


def _parse_many(text: str, declared: object, name: str) -> object:
    """Parse a list or mapping: JSON, or comma-separated parts."""
    if text.lstrip().startswith(("[", "{")):
        return convert(_json(text, declared, name), declared, name)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    arguments = typing.get_args(declared)
    if typing.get_origin(declared) is tuple:
        return tuple(parse_text(part, arguments[0], name) for part in parts)
    pairs = [part.partition("=") for part in parts]
    if not all(separator for _, separator, _ in pairs):
        raise _wrong(text, declared, name)
    return {
        key.strip(): parse_text(item.strip(), arguments[1], f"{name}.{key.strip()}")
        for key, _, item in pairs
    }


def _parse_scalar(text: str, declared: object, name: str) -> object:
    if declared is bool and text.lower() in TRUE_WORDS | FALSE_WORDS:
        return text.lower() in TRUE_WORDS
    try:
        if declared is int:
            return int(text)
        if declared is float:
            return float(text)
    except ValueError:
        pass
    raise _wrong(text, declared, name)


def _convert_choice(value: object, declared: object, name: str) -> object:
    choices = typing.get_args(declared)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if text in choices:
        return text
    guess = nearest(text, [choice for choice in choices if choice]) if text else None
    raise ConfigError(
        f"{name} is {value!r}, expected {expected(declared)}",
        hint=f"did you mean {guess}?" if guess else f"set {name} to {expected(declared)}",
    )


def _convert_dataclass(value: object, declared: type, name: str) -> object:
    if not isinstance(value, Mapping):
        raise _wrong(value, declared, name)
    hints = field_types(declared)
    for key in value:
        if key not in hints:
            guess = nearest(str(key), hints)
            raise ConfigError(
                f"unknown key '{name}.{key}'",
                hint=f"did you mean '{name}.{guess}'?" if guess else f"keys: {', '.join(hints)}",
            )
    given = {str(key): convert(item, hints[key], f"{name}.{key}") for key, item in value.items()}
    return declared(**given)


def _convert_scalar(value: object, declared: object, name: str) -> object:
    if declared is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif declared is Path and isinstance(value, str) and value:
        return Path(value)
    elif type(value) is declared:  # by type, not isinstance: true is no whole number
        return value
    raise _wrong(value, declared, name)


def _json(text: str, declared: object, name: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise _wrong(text, declared, name) from None


def _wrong(value: object, declared: object, name: str) -> ConfigError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ConfigError(
        f"{name} is {shown}, expected {expected(declared)}",
        hint=f"set {name} to {expected(declared)}",
    )
