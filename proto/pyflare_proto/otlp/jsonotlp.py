r"""OTLP/JSON to the protobuf wire format, so that there is one decoder.

`transcode` reads an ExportTraceServiceRequest by the rules of OTLP/JSON (the OTLP
specification, "JSON Protobuf Encoding", on top of the proto3 JSON mapping), which is
why the general JSON parser of protobuf cannot be used: ids are hexadecimal, not
base64; enums are integers, never names; keys are lowerCamelCase only; a field that is
not known is ignored at every depth. Beyond the letter of the rules:

- null is the same as an absent field. In a list it is skipped, except in the `values`
  of an array, where it is an unset value, so that the others keep their places.
- Of two values in one `AnyValue`, the last one counts, as on the wire.
- An id of the wrong length keeps its bytes: the span is rejected later, alone.
- Integers come as a number or as a decimal string, with an exponent too (`1e3`), and
  a double that is whole is an integer. An `intValue` that no int64 holds (JavaScript
  exporters send whole doubles as `{"intValue": 1e+300}`), or that has a fraction,
  becomes a `doubleValue`: one such value does not cost the whole request. Numbers of
  more than 64 bits that are not in a string are rounded to a double by the JSON parser.
- `bytesValue` is base64, standard or URL-safe, with or without padding.
- A lone surrogate (`"\ud83d"`, half of an emoji that was cut) becomes U+FFFD, as does
  invalid UTF-8 in the binary form.
- A document of over 100,000 objects and lists that has fewer than 12 bytes for each is
  refused, as parsing it would take many times its size in memory.
- `keyStrindex` and `stringValueStrindex` refer to a dictionary that only profiles
  have; they count as unknown.

Documents in the form that exporters write take the compiled way of `jsonfast`, at ten
times the speed; what it declines, and every error, is decided here.
"""

from __future__ import annotations

import functools
import re
from struct import Struct

import orjson

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.jsonfast import fast_transcode
from pyflare_proto.otlp.jsonwire import (
    FIXED32,
    FIXED64,
    INT64_MAX,
    INT64_MIN,
    LENGTH,
    MAX_DEPTH,
    UINT64_MAX,
    Fault,
    Fields,
    Parts,
    Writer,
    base64_of,
    check_depth,
    count_field,
    double_of,
    enum_field,
    expected,
    fixed_field,
    id_field,
    message_field,
    messages_field,
    number_of,
    tag_of,
    text_field,
    text_of,
    texts_field,
    varint,
    write_message,
)

__all__ = ["transcode"]

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile(
    rb"(?P<kept>(?:[^\\]++"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).)++)"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
    re.DOTALL,
)
"""A run of text that stays (pairs of surrogates, any other escape), or a lone surrogate.

Escapes are consumed whole, so that what follows an escaped backslash is not taken for one.
"""


def transcode(text: bytes) -> bytes:
    """Return the wire bytes of an ExportTraceServiceRequest given as OTLP/JSON.

    Args:
        text: the document, UTF-8. Nothing but white space is an empty request.

    Returns:
        The protobuf bytes; `b""` for a request without fields.

    Raises:
        InvalidDataError: the text is no JSON, a known field has a value that it cannot
            have (the message names its path), the messages nest deeper than `MAX_DEPTH`
            levels, or there are far more objects than a request of this size has.
    """
    if not text or text.isspace():
        return b""
    written = fast_transcode(text, _most_objects(text))
    if written is not None:
        return written
    parts: Parts = []
    try:
        write_message(parts, _REQUEST, _parse(text), 0)
    except Fault as fault:
        where = fault.where()
        raise InvalidDataError(
            f"OTLP/JSON: {where + ': ' if where else ''}{fault.reason}",
            hint="the value must have the form that the OTLP specification gives it",
        ) from None
    return b"".join(parts)


def _check_objects(text: bytes) -> None:
    """Refuse a document that is nearly nothing but objects and lists.

    An object takes 250 bytes of memory, so that 64 MiB of `{},` would take over 5 GiB.
    Requests are far from that: `{"intValue":1},` has 15 bytes, an attribute 17 an object.
    """
    allowed = _most_objects(text)
    # The first count is fast, and too high by the brackets in strings.
    if _objects(text) > allowed and _objects(_STRING.sub(b"", text)) > allowed:
        raise InvalidDataError(
            f"the document has more than {allowed} objects and lists in its {len(text)} bytes",
            hint="leave out objects and lists that are empty",
        )


def _most_objects(text: bytes) -> int:
    return _FREE_OBJECTS + len(text) // _BYTES_PER_OBJECT


def _objects(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


_FREE_OBJECTS, _BYTES_PER_OBJECT = 100_000, 12
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A JSON string, or what is left of one that does not end."""


def _parse(text: bytes) -> object:
    _check_objects(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if _SURROGATE.search(text) is None:
            raise _not_json(error) from None
    try:
        return orjson.loads(_LONE_SURROGATE.sub(_repair, text))
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from None


def _repair(run: re.Match[bytes]) -> bytes:
    return run["kept"] or rb"\ufffd"


def _not_json(error: orjson.JSONDecodeError) -> InvalidDataError:
    return InvalidDataError(
        f"the text is no JSON: {error}",
        hint="OTLP/JSON is one JSON document in UTF-8; protobuf needs another content type",
    )


# Attributes and their values: nine tenths of a document. One of a key that was seen
# before and of a plain value is written in one step, any other by the descriptions below.

_KEYS: dict[str, bytes] = {}
"""The `key` field of keys that were seen, tag and length included."""
_KEYS_LIMIT, _KEY_LENGTH_LIMIT = 4096, 128
_SHORT = 1024
"""Strings below this many bytes have the tags and lengths before them in tables."""


def _string_head(size: int) -> bytes:
    """Return what stands before a string that is a value: two tags, two lengths."""
    inner = b"\x0a" + varint(size)
    return b"\x12" + varint(len(inner) + size) + inner


_STRING_HEADS = tuple(_string_head(size) for size in range(_SHORT))


def _key(key: object) -> bytes:
    raw = text_of(key)
    field = b"\x0a" + varint(len(raw)) + raw
    if len(raw) <= _KEY_LENGTH_LIMIT:
        if len(_KEYS) >= _KEYS_LIMIT:
            _KEYS.clear()
        _KEYS[raw.decode()] = field
    return field


@functools.lru_cache(maxsize=8192, typed=True)
def _int_field(value: str | int) -> bytes | None:
    parts: Parts = []
    try:
        _int_value(parts, value, 0)
    except Fault:
        return None
    body = b"".join(parts)
    return b"\x12" + varint(len(body)) + body


def _number_field(value: dict[str, object]) -> bytes | None:
    """Return the `value` field of a plain number or bool; None for anything else."""
    number = value.get("intValue")
    if type(number) is int or (type(number) is str and len(number) <= 20):
        return _int_field(number)
    double = value.get("doubleValue")
    if type(double) is float:
        return b"\x12\x09" + _PACK_DOUBLE(0x21, double)
    flag = value.get("boolValue")
    if type(flag) is bool:
        return b"\x12\x02\x10\x01" if flag else b"\x12\x02\x10\x00"
    return None


def _key_values_field(number: int) -> Writer:
    tag = tag_of(number, LENGTH)
    # The longest key, tag and length and all, before the longest string.
    heads = tuple(tag + varint(size) for size in range(_KEY_LENGTH_LIMIT + _SHORT + 16))

    def write_plain(parts: Parts, item: dict[str, object]) -> bool:
        value, key = item.get("value"), item.get("key")
        if type(value) is not dict or len(value) != 1 or type(key) is not str:
            return False
        field = _KEYS.get(key)
        if field is None:
            return False
        text = value.get("stringValue")
        if type(text) is str:
            raw = text.encode()
            if len(raw) >= _SHORT:
                return False
            head = _STRING_HEADS[len(raw)]
            parts += (heads[len(field) + len(head) + len(raw)], field, head, raw)
            return True
        body = _number_field(value)
        if body is None:
            return False
        parts += (heads[len(field) + len(body)], field, body)
        return True

    def write(parts: Parts, value: object, level: int) -> None:
        if type(value) is not list:
            expected("a list", value)
        shallow = level + 2 <= MAX_DEPTH
        for place, item in enumerate(value):
            plain = shallow and type(item) is dict and write_plain(parts, item)
            if plain or item is None:
                continue
            try:
                body = _key_value(item, level + 1)
            except Fault as fault:
                fault.path.append(place)
                raise
            parts += (tag, varint(len(body)), body)

    return write


def _key_value(item: object, level: int) -> bytes:
    check_depth(level)
    if type(item) is not dict:
        expected("an object", item)
    name = "key"
    try:
        key = item.get("key")
        field = b"" if key is None else (type(key) is str and _KEYS.get(key)) or _key(key)
        name = "value"
        value = item.get("value")
        if value is None:
            return field
        body = _any_value(value, level + 1)
        return b"%b\x12%b%b" % (field, varint(len(body)), body)
    except Fault as fault:
        fault.path.append(name)
        raise


def _any_value(value: object, level: int) -> bytes:
    parts: Parts = []
    write_message(parts, _ANY_VALUE, value, level)
    return b"".join(parts)


def _string_value(parts: Parts, value: object, _level: int) -> None:
    raw = text_of(value)
    parts += (b"\x0a", varint(len(raw)), raw)


def _bool_value(parts: Parts, value: object, _level: int) -> None:
    if type(value) is not bool:
        expected("true or false", value)
    parts.append(b"\x10\x01" if value else b"\x10\x00")


def _int_value(parts: Parts, value: object, _level: int) -> None:
    number = number_of(value, "an integer")
    if type(number) is int and INT64_MIN <= number <= INT64_MAX:
        parts += (b"\x18", varint(number & UINT64_MAX))
    else:
        parts.append(_PACK_DOUBLE(0x21, number))


_PACK_DOUBLE = Struct("<Bd").pack


def _double_value(parts: Parts, value: object, _level: int) -> None:
    parts.append(_PACK_DOUBLE(0x21, double_of(value)))


def _bytes_value(parts: Parts, value: object, _level: int) -> None:
    raw = base64_of(value)
    parts += (b"\x3a", varint(len(raw)), raw)


def _array_values(parts: Parts, value: object, level: int) -> None:
    if type(value) is not list:
        expected("a list", value)
    for place, item in enumerate(value):
        try:
            body = b"" if item is None else _any_value(item, level + 1)
        except Fault as fault:
            fault.path.append(place)
            raise
        parts += (b"\x0a", varint(len(body)), body)


# The messages, with the numbers of opentelemetry-proto 1.11.

_ATTRIBUTES_1, _ATTRIBUTES_3 = _key_values_field(1), _key_values_field(3)
_ANY_VALUE: Fields = {
    "stringValue": _string_value,
    "boolValue": _bool_value,
    "intValue": _int_value,
    "doubleValue": _double_value,
    "arrayValue": message_field(5, {"values": _array_values}),
    "kvlistValue": message_field(6, {"values": _ATTRIBUTES_1}),
    "bytesValue": _bytes_value,
}
_ENTITY_REF: Fields = {
    "schemaUrl": text_field(1),
    "type": text_field(2),
    "idKeys": texts_field(3),
    "descriptionKeys": texts_field(4),
}
_RESOURCE: Fields = {
    "attributes": _ATTRIBUTES_1,
    "droppedAttributesCount": count_field(2),
    "entityRefs": messages_field(3, _ENTITY_REF),
}
_SCOPE: Fields = {
    "name": text_field(1),
    "version": text_field(2),
    "attributes": _ATTRIBUTES_3,
    "droppedAttributesCount": count_field(4),
}
_EVENT: Fields = {
    "timeUnixNano": fixed_field(1, FIXED64),
    "name": text_field(2),
    "attributes": _ATTRIBUTES_3,
    "droppedAttributesCount": count_field(4),
}
_LINK: Fields = {
    "traceId": id_field(1),
    "spanId": id_field(2),
    "traceState": text_field(3),
    "attributes": _key_values_field(4),
    "droppedAttributesCount": count_field(5),
    "flags": fixed_field(6, FIXED32),
}
_STATUS: Fields = {"message": text_field(2), "code": enum_field(3)}
_SPAN: Fields = {
    "traceId": id_field(1),
    "spanId": id_field(2),
    "traceState": text_field(3),
    "parentSpanId": id_field(4),
    "name": text_field(5),
    "kind": enum_field(6),
    "startTimeUnixNano": fixed_field(7, FIXED64),
    "endTimeUnixNano": fixed_field(8, FIXED64),
    "attributes": _key_values_field(9),
    "droppedAttributesCount": count_field(10),
    "events": messages_field(11, _EVENT),
    "droppedEventsCount": count_field(12),
    "links": messages_field(13, _LINK),
    "droppedLinksCount": count_field(14),
    "status": message_field(15, _STATUS),
    "flags": fixed_field(16, FIXED32),
}
_SCOPE_SPANS: Fields = {
    "scope": message_field(1, _SCOPE),
    "spans": messages_field(2, _SPAN),
    "schemaUrl": text_field(3),
}
_RESOURCE_SPANS: Fields = {
    "resource": message_field(1, _RESOURCE),
    "scopeSpans": messages_field(2, _SCOPE_SPANS),
    "schemaUrl": text_field(3),
}
_REQUEST: Fields = {"resourceSpans": messages_field(1, _RESOURCE_SPANS)}
