"""Writers of protobuf fields from parsed JSON: what a value must be, and its bytes on the wire.

A message is described by a mapping of its JSON names to writers (`Fields`). A value
that a field cannot have raises `Fault`, to which each level adds its step of the path.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from struct import Struct
from typing import Final, NoReturn, TypeAlias

import orjson

__all__ = [
    "FIXED32",
    "FIXED64",
    "INT64_MAX",
    "INT64_MIN",
    "LENGTH",
    "MAX_DEPTH",
    "UINT64_MAX",
    "Fault",
    "Fields",
    "Parts",
    "Writer",
    "base64_of",
    "check_depth",
    "count_field",
    "double_of",
    "enum_field",
    "expected",
    "fixed_field",
    "id_field",
    "items",
    "message_field",
    "messages_field",
    "number_of",
    "tag_of",
    "text_field",
    "text_of",
    "texts_field",
    "varint",
    "write_message",
]

MAX_DEPTH: Final = 100
"""Levels of messages below the request, the limit of the binary form's parsers as well."""

Parts: TypeAlias = list[bytes]
Writer: TypeAlias = Callable[[Parts, object, int], None]
"""Appends one field: the parts of the message that holds it, its value, its message's level."""
Fields: TypeAlias = Mapping[str, Writer]
"""The fields of a message by their names in JSON."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
_UINT32_MAX, UINT64_MAX = (1 << 32) - 1, (1 << 64) - 1
_NUMERAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?")
_NUMERAL_DIGITS = 400
"""Longest numeral in a string; the largest double has 309 digits before the point."""


class Fault(Exception):  # noqa: N818 - it never leaves this module
    """What is wrong with a value; each level that it passes through adds to the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []

    def where(self) -> str:
        """Return the path of the value from the top of the document."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path[::-1])
        return "".join(steps).removeprefix(".")


def check_depth(level: int) -> None:
    """Raise `Fault` where a message lies too deep."""
    if level > MAX_DEPTH:
        raise Fault(f"messages nest deeper than {MAX_DEPTH} levels")


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT_VARINTS = tuple(_encode_varint(value) for value in range(4096))


def varint(value: int) -> bytes:
    """Return a varint; `value` from 0 to 2**64 - 1."""
    return _SHORT_VARINTS[value] if value < 4096 else _encode_varint(value)


def tag_of(number: int, wire_type: int) -> bytes:
    """Return the tag of a field."""
    return _encode_varint(number << 3 | wire_type)


# What values must be.


def expected(what: str, value: object) -> NoReturn:
    """Raise `Fault`: the value, shown in short, is not what it must be."""
    if type(value) is dict:
        shown = "an object"
    elif type(value) is list:
        shown = "a list"
    elif type(value) is str and len(value) > 40:
        shown = orjson.dumps(value[:37]).decode()[:-1] + '..."'
    else:
        shown = orjson.dumps(value).decode()
    raise Fault(f"expected {what}, not {shown}")


def items(value: object) -> Iterator[tuple[int, object]]:
    """Yield the items of a list that are not null, with their places."""
    if type(value) is not list:
        expected("a list", value)
    for place, item in enumerate(value):
        if item is not None:
            yield place, item


def _numeral(text: str, what: str) -> int | float:
    """Return the number that a string spells as JSON spells numbers; a whole one as an int."""
    if len(text) < 20 and text.isdigit() and text.isascii():
        return int(text)
    rounded = _double(text, what)
    exact = Decimal(text)
    # Only what may fit in 64 bits is worth its digits: 1e300 has 301 of them.
    if exact.adjusted() < 20 and exact == exact.to_integral_value():
        return int(exact)
    return rounded


def _double(text: str, what: str) -> float:
    if len(text) > _NUMERAL_DIGITS or _NUMERAL.fullmatch(text) is None:
        expected(what, text)
    number = float(text)
    if math.isinf(number):
        expected(what, text)
    return number


def double_of(value: object) -> float:
    """Return a double given as a number, as a string, or as one of the three names."""
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is not str:
        expected("a number", value)
    special = _SPECIAL_DOUBLES.get(value)
    return _double(value, "a number") if special is None else special


_SPECIAL_DOUBLES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_of(value: object, what: str) -> int | float:
    """Return a number given as one or as a string; a whole one below 2**64 as an int."""
    if type(value) is int:
        return value
    if type(value) is str:
        return _numeral(value, what)
    if type(value) is not float:
        expected(what, value)
    return int(value) if value.is_integer() and abs(value) < 2.0**64 else value


def _whole(value: object, low: int, high: int, what: str) -> int:
    number = number_of(value, what)
    if type(number) is float or not low <= number <= high:
        expected(what, value)
    return int(number)


def text_of(value: object) -> bytes:
    """Return a string as UTF-8."""
    if type(value) is not str:
        expected("a string", value)
    return value.encode()


def base64_of(value: object) -> bytes:
    """Return the bytes of base64, standard or URL-safe, with or without padding."""
    try:
        digits = text_of(value).translate(_STANDARD_BASE64).rstrip(b"=")
        return binascii.a2b_base64(digits + b"==="[: -len(digits) % 4], strict_mode=True)
    except (binascii.Error, Fault):
        expected("base64", value)


_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")


# Writers of one field.


def text_field(number: int) -> Writer:
    """Return the writer of a `string` field."""
    tag = tag_of(number, LENGTH)

    def write(parts: Parts, value: object, _level: int) -> None:
        if raw := text_of(value):
            parts += (tag, varint(len(raw)), raw)

    return write


def texts_field(number: int) -> Writer:
    """Return the writer of a `repeated string` field."""
    tag = tag_of(number, LENGTH)

    def write(parts: Parts, value: object, _level: int) -> None:
        for place, item in items(value):
            try:
                raw = text_of(item)
            except Fault as fault:
                fault.path.append(place)
                raise
            parts += (tag, varint(len(raw)), raw)

    return write


def id_field(number: int) -> Writer:
    """Return the writer of an id: `bytes` as hexadecimal digits of either case, of any length."""
    tag = tag_of(number, LENGTH)

    def write(parts: Parts, value: object, _level: int) -> None:
        if type(value) is not str:
            expected("hexadecimal digits", value)
        try:
            raw = binascii.unhexlify(value)
        except ValueError:
            expected("hexadecimal digits", value)
        if raw:
            parts += (tag, varint(len(raw)), raw)

    return write


def fixed_field(number: int, wire_type: int) -> Writer:
    """Return the writer of a `fixed64` (`FIXED64`) or `fixed32` (`FIXED32`) field."""
    high = UINT64_MAX if wire_type == FIXED64 else _UINT32_MAX
    pack = Struct("<Q" if wire_type == FIXED64 else "<I").pack
    tag = tag_of(number, wire_type)
    digits = len(str(high))
    what = f"an integer from 0 to {high}"

    def write(parts: Parts, value: object, _level: int) -> None:
        if type(value) is str and len(value) < digits and value.isdigit() and value.isascii():
            parts += (tag, pack(int(value)))
        else:
            parts += (tag, pack(_whole(value, 0, high, what)))

    return write


def count_field(number: int) -> Writer:
    """Return the writer of a `uint32` field."""
    tag = tag_of(number, VARINT)
    what = f"an integer from 0 to {_UINT32_MAX}"

    def write(parts: Parts, value: object, _level: int) -> None:
        parts += (tag, varint(_whole(value, 0, _UINT32_MAX, what)))

    return write


def enum_field(number: int) -> Writer:
    """Return the writer of an enum: any integer of 32 bits, never a name."""
    tag = tag_of(number, VARINT)
    what = "the integer of the enum, as OTLP/JSON has no names of enums"

    def write(parts: Parts, value: object, _level: int) -> None:
        if type(value) is int and 0 <= value < 128:
            parts += (tag, _SHORT_VARINTS[value])
            return
        if type(value) is str:
            expected(what, value)
        whole = _whole(value, -(1 << 31), (1 << 31) - 1, what)
        parts += (tag, varint(whole & UINT64_MAX))

    return write


# Messages.


def write_message(parts: Parts, fields: Fields, value: object, level: int) -> None:
    """Append the known fields of a message; `level` is how deep it lies below the request."""
    if level > MAX_DEPTH:
        check_depth(level)
    if type(value) is not dict:
        expected("an object", value)
    name = ""
    try:
        for name, item in value.items():
            write = fields.get(name)
            if write is not None and item is not None:
                write(parts, item, level)
    except Fault as fault:
        fault.path.append(name)
        raise


def message_field(number: int, fields: Fields) -> Writer:
    """Return the writer of a message; an empty object is a message that is present."""
    tag = tag_of(number, LENGTH)

    def write(parts: Parts, value: object, level: int) -> None:
        inner: Parts = []
        write_message(inner, fields, value, level + 1)
        body = b"".join(inner)
        parts += (tag, varint(len(body)), body)

    return write


def messages_field(number: int, fields: Fields) -> Writer:
    """Return the writer of a list of messages."""
    write_one = message_field(number, fields)

    def write(parts: Parts, value: object, level: int) -> None:
        for place, item in items(value):
            try:
                write_one(parts, item, level)
            except Fault as fault:
                fault.path.append(place)
                raise

    return write
