"""OTLP/JSON to the wire format in compiled code, for documents in the form exporters write.

`fast_transcode` gives exactly the bytes that `jsonotlp.transcode` gives, or None: for a
field that it does not know, a value in a rare form, an error. The other then decides, and
names what is wrong. So this one is strict and short: known names without escapes, each
once, in objects that nest a few levels; numbers as JSON or as decimal digits.

The text is walked once. A message is written behind one byte for its length; where the
length needs more, the message moves when it is closed. Doubles that are not exact in a
few operations are left to Python, by place, and filled in at the end.
"""

from __future__ import annotations

from struct import pack_into

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.otlp.jit import (
    address,
    byte_at,
    frozen,
    helper,
    int64_at,
    kernel,
    put8,
    put32,
    put64,
)
from pyflare_proto.otlp.jsonscan import (
    BAIL,
    bits_of,
    digits,
    number_end,
    put_id,
    put_length,
    put_text,
    put_varint,
    space,
    string_end,
    whole,
)

__all__ = ["fast_transcode"]

_MAX_FRAMES = 24
_FRAME_WORDS = 4
_MAX_DOUBLES_SHARE = 16
"""One double that is left to Python for so many bytes of text, at the most."""

(
    _TEXT,
    _VALUE_TEXT,
    _ID,
    _FIXED64,
    _FIXED32,
    _COUNT,
    _ENUM,
    _BOOL,
    _INT,
    _DOUBLE,
    _MESSAGE,
    _MESSAGES,
) = range(12)

_REQUEST, _RESOURCE_SPANS, _RESOURCE, _SCOPE_SPANS, _SCOPE, _SPAN = range(6)
_EVENT, _LINK, _STATUS, _KEY_VALUE, _ANY_VALUE, _ARRAY, _KVLIST = range(6, 13)

_FIELDS: tuple[tuple[tuple[str, int, int, int], ...], ...] = (
    (("resourceSpans", 1, _MESSAGES, _RESOURCE_SPANS),),
    (
        ("resource", 1, _MESSAGE, _RESOURCE),
        ("scopeSpans", 2, _MESSAGES, _SCOPE_SPANS),
        ("schemaUrl", 3, _TEXT, 0),
    ),
    (
        ("attributes", 1, _MESSAGES, _KEY_VALUE),
        ("droppedAttributesCount", 2, _COUNT, 0),
    ),
    (
        ("scope", 1, _MESSAGE, _SCOPE),
        ("spans", 2, _MESSAGES, _SPAN),
        ("schemaUrl", 3, _TEXT, 0),
    ),
    (
        ("name", 1, _TEXT, 0),
        ("version", 2, _TEXT, 0),
        ("attributes", 3, _MESSAGES, _KEY_VALUE),
        ("droppedAttributesCount", 4, _COUNT, 0),
    ),
    (
        ("traceId", 1, _ID, 0),
        ("spanId", 2, _ID, 0),
        ("traceState", 3, _TEXT, 0),
        ("parentSpanId", 4, _ID, 0),
        ("name", 5, _TEXT, 0),
        ("kind", 6, _ENUM, 0),
        ("startTimeUnixNano", 7, _FIXED64, 0),
        ("endTimeUnixNano", 8, _FIXED64, 0),
        ("attributes", 9, _MESSAGES, _KEY_VALUE),
        ("droppedAttributesCount", 10, _COUNT, 0),
        ("events", 11, _MESSAGES, _EVENT),
        ("droppedEventsCount", 12, _COUNT, 0),
        ("status", 15, _MESSAGE, _STATUS),
        ("links", 13, _MESSAGES, _LINK),
        ("droppedLinksCount", 14, _COUNT, 0),
        ("flags", 16, _FIXED32, 0),
    ),
    (
        ("timeUnixNano", 1, _FIXED64, 0),
        ("name", 2, _TEXT, 0),
        ("attributes", 3, _MESSAGES, _KEY_VALUE),
        ("droppedAttributesCount", 4, _COUNT, 0),
    ),
    (
        ("traceId", 1, _ID, 0),
        ("spanId", 2, _ID, 0),
        ("traceState", 3, _TEXT, 0),
        ("attributes", 4, _MESSAGES, _KEY_VALUE),
        ("droppedAttributesCount", 5, _COUNT, 0),
        ("flags", 6, _FIXED32, 0),
    ),
    (
        ("message", 2, _TEXT, 0),
        ("code", 3, _ENUM, 0),
    ),
    (
        ("key", 1, _VALUE_TEXT, 0),
        ("value", 2, _MESSAGE, _ANY_VALUE),
    ),
    (
        ("stringValue", 1, _VALUE_TEXT, 0),
        ("intValue", 3, _INT, 0),
        ("boolValue", 2, _BOOL, 0),
        ("doubleValue", 4, _DOUBLE, 0),
        ("arrayValue", 5, _MESSAGE, _ARRAY),
        ("kvlistValue", 6, _MESSAGE, _KVLIST),
    ),
    (("values", 1, _MESSAGES, _ANY_VALUE),),
    (("values", 1, _MESSAGES, _KEY_VALUE),),
)
"""Name, number, form and message type of each field, in the order in which exporters write."""

_WIRE_TYPES = {_FIXED64: 1, _DOUBLE: 1, _FIXED32: 5, _COUNT: 0, _ENUM: 0, _BOOL: 0, _INT: 0}
_ALL = tuple(field for fields in _FIELDS for field in fields)


def _word(name: str, place: int) -> int:
    return int.from_bytes(name.encode()[8 * place : 8 * place + 8].ljust(8, b"\0"), "little")


_NAMES = np.array([[_word(name, place) for place in range(3)] for name, *_ in _ALL], np.int64)
_SIZES = np.array([len(name) for name, *_ in _ALL], np.int64)
_TAGS = np.array([n << 3 | _WIRE_TYPES.get(form, 2) for _, n, form, _ in _ALL], np.int64)
_FORMS = np.array([form for _, _, form, _ in _ALL], np.int64)
_CHILDREN = np.array([child for *_, child in _ALL], np.int64)
_FIRST = np.cumsum([0, *(len(fields) for fields in _FIELDS)]).astype(np.int64)

_LIST = -1
"""In place of the type of a frame's message: the frame is a list."""


@helper
def _field_of(name: int, size: int, kind: int, hint: int) -> int:
    """Return the row of a field by its name, `BAIL` for an unknown one.

    Args:
        name: where the name stands.
        size: its bytes.
        kind: type of the message.
        hint: row to try first.
    """
    if size < 1 or size > 24:
        return BAIL
    first = int64_at(name)
    second = int64_at(name + 8)
    third = int64_at(name + 16)
    if size < 8:
        first &= (1 << (8 * size)) - 1
    if size <= 8:
        second = 0
    elif size < 16:
        second &= (1 << (8 * (size - 8))) - 1
    if size <= 16:
        third = 0
    elif size < 24:
        third &= (1 << (8 * (size - 16))) - 1
    count = _FIRST[kind + 1] - _FIRST[kind]
    row = hint
    for _ in range(count):
        if row >= _FIRST[kind + 1]:
            row = _FIRST[kind]
        same = _NAMES[row, 0] == first and _NAMES[row, 1] == second and _NAMES[row, 2] == third
        if same and _SIZES[row] == size:
            return row
        row += 1
    return BAIL


@helper
def _put_tag(tag: int, out: int) -> int:
    if tag < 0x80:
        put8(out, tag)
        return out + 1
    put8(out, tag & 0x7F | 0x80)
    put8(out + 1, tag >> 7)
    return out + 2


@helper
def _put_scalar(form: int, tag: int, pos: int, end: int, out: int) -> tuple[int, int]:
    """Write a field that is no message and no double: (next place of the text, of the output)."""
    if form <= _ID:
        if byte_at(pos) != 34:
            return BAIL, out
        stop, escaped = string_end(pos + 1, end)
        if stop < 0 or (form == _ID and escaped):
            return BAIL, out
        if stop == pos + 1 and form != _VALUE_TEXT:
            return stop + 1, out
        out = _put_tag(tag, out)
        begun = pos + 1
        out = put_id(begun, stop, out) if form == _ID else put_text(begun, stop, escaped, out)
        return (stop + 1 if out > 0 else BAIL), out
    if form == _BOOL:
        if int64_at(pos) & 0xFFFFFFFF == 0x65757274:
            put8(out, tag)
            put8(out + 1, 1)
            return pos + 4, out + 2
        if int64_at(pos) & 0xFFFFFFFFFF == 0x65736C6166:
            put8(out, tag)
            put8(out + 1, 0)
            return pos + 5, out + 2
        return BAIL, out
    if form == _ENUM and byte_at(pos) == 34:
        return BAIL, out
    value, pos = whole(pos, form == _INT)
    if pos < 0:
        return BAIL, out
    out = _put_tag(tag, out)
    if form == _FIXED64:
        put64(out, value)
        return pos, out + 8
    if form == _FIXED32:
        put32(out, value)
        return (pos if value <= 0xFFFFFFFF else BAIL), out + 4
    if (form == _ENUM and value > 0x7F) or (form == _COUNT and value > 0xFFFFFFFF):
        return BAIL, out
    return pos, put_varint(value, out)


@helper
def _put_double(
    pos: int, tag: int, out: int, source: int, doubles: int, count: int
) -> tuple[int, int, int]:
    """Write a double, or note it for Python: (next places of text and output, count noted).

    A note is three words: where the eight bytes stand, and where in the text the number
    begins and ends.
    """
    stop = number_end(pos)
    if stop < 0 or (byte_at(pos) == 45 and byte_at(pos + 1) == 48 and stop == pos + 2):
        return BAIL, out, count  # -0 is an integer, and has no sign as one
    put8(out, tag)
    out += 1
    value, behind = digits(pos, 15)
    if behind == stop:
        # At most 15 digits: exact in a double. The bits of an integer by hand.
        put64(out, bits_of(value))
        return stop, out + 8, count
    put64(out, 0)
    note = doubles + 24 * count
    put64(note, out)
    put64(note + 8, pos - source)
    put64(note + 16, stop - source)
    return stop, out + 8, count + 1


@kernel
def _transcode(
    text: NDArray[np.uint8],
    size: int,
    most_objects: int,
    output: NDArray[np.uint8],
    stack: NDArray[np.int64],
    notes: NDArray[np.int64],
) -> tuple[int, int]:
    """Write the request: (bytes, doubles noted), or (`BAIL`, 0).

    Args:
        text: the document, with 32 zero bytes behind it.
        size: its bytes.
        most_objects: objects and lists that it may have.
        output: (size + 64,) at least: no field is longer on the wire than in JSON.
        stack: (`_MAX_FRAMES` * `_FRAME_WORDS`,).
        notes: (3 * k,) room for k doubles.
    """
    source = address(text)
    end = source + size
    target = address(output)
    frames = address(stack)
    doubles = address(notes)
    most = len(notes) // 3
    count = 0
    objects = 1
    out = target
    pos = space(source)
    if byte_at(pos) != 123:
        return BAIL, 0
    pos += 1
    # A frame: message type or _LIST; where the message starts, or the tag of the items;
    # fields seen, or the items' type; the next row expected, or whether an item has come.
    top = frames
    put64(top, _REQUEST)
    put64(top + 8, 0)
    put64(top + 16, 0)
    put64(top + 24, _FIRST[_REQUEST])
    first = True
    while True:
        pos = space(pos)
        byte = byte_at(pos)
        kind = int64_at(top)
        if byte == (93 if kind == _LIST else 125):
            start = int64_at(top + 8)
            if kind != _LIST and start != 0:
                out = put_length(start, out, doubles, count)
            pos += 1
            first = False
            if top == frames:
                break
            top -= 32
            continue
        if not first:
            if byte != 44:
                return BAIL, 0
            pos = space(pos + 1)
            byte = byte_at(pos)
        first = False
        if kind == _LIST:
            tag = int64_at(top + 8)
            child = int64_at(top + 16)
            objects += 1
            if objects > most_objects:
                return BAIL, 0
        else:
            if byte != 34:
                return BAIL, 0
            name = pos + 1
            pos = name
            while byte_at(pos) != 34 and pos - name < 25:
                pos += 1
            row = _field_of(name, pos - name, kind, int64_at(top + 24))
            if row < 0:
                return BAIL, 0
            bit = 1 << (row - _FIRST[kind])
            seen = int64_at(top + 16)
            # A key behind its value would be written before it; of two fields the last counts.
            if seen & bit != 0 or (kind == _KEY_VALUE and seen > bit):
                return BAIL, 0
            put64(top + 16, seen | bit)
            put64(top + 24, row + 1)
            pos = space(pos + 1)
            if byte_at(pos) != 58:
                return BAIL, 0
            pos = space(pos + 1)
            if int64_at(pos) & 0xFFFFFFFF == 0x6C6C756E:
                pos += 4
                continue
            form = _FORMS[row]
            tag = _TAGS[row]
            if form < _DOUBLE:
                pos, out = _put_scalar(form, tag, pos, end, out)
                if pos < 0:
                    return BAIL, 0
                continue
            if form == _DOUBLE:
                if count >= most:
                    return BAIL, 0
                pos, out, count = _put_double(pos, tag, out, source, doubles, count)
                if pos < 0:
                    return BAIL, 0
                continue
            child = _CHILDREN[row]
            byte = byte_at(pos)
            objects += 1
            if top + 64 >= frames + 8 * len(stack):
                return BAIL, 0
            if form == _MESSAGES:
                if byte != 91:
                    return BAIL, 0
                top += 32
                put64(top, _LIST)
                put64(top + 8, tag)
                put64(top + 16, child)
                pos += 1
                first = True
                continue
        if byte != 123:
            return BAIL, 0
        out = _put_tag(tag, out) + 1
        top += 32
        put64(top, child)
        put64(top + 8, out)
        put64(top + 16, 0)
        put64(top + 24, _FIRST[child])
        pos += 1
        first = True
    if space(pos) != end:
        return BAIL, 0
    return out - target, count


_PADDING = bytes(32)


def fast_transcode(text: bytes, most_objects: int) -> bytes | None:
    """Return the wire bytes of an OTLP/JSON request, or None where `jsonotlp` has to decide.

    Args:
        text: the document, UTF-8.
        most_objects: objects and lists that it may have.
    """
    source = np.frombuffer(text + _PADDING, np.uint8)
    output = np.empty(len(text) + 64, np.uint8)
    stack = np.empty(_MAX_FRAMES * _FRAME_WORDS, np.int64)
    notes = np.empty(3 * (len(text) // _MAX_DOUBLES_SHARE + 1), np.int64)
    size, count = _transcode(frozen(source), len(text), most_objects, output, stack, notes)
    if size < 0:
        return None
    base = output.ctypes.data
    for place, begin, stop in notes[: 3 * count].reshape(-1, 3).tolist():
        number = float(text[begin:stop])
        if number - number != 0.0:  # an overflow is the other's to refuse
            return None
        pack_into("<d", output.data, place - base, number)
    return output[:size].tobytes()
