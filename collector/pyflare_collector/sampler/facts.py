"""What a batch says about sampling, found in its attributes and resources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.sampler.kernels import attribute_rows
from pyflare_proto.otlp.batch import AttributeTable, OtlpBatch, ValueType
from pyflare_proto.otlp.jit import frozen

__all__ = ["number_attribute", "resource_names"]


def number_attribute(batch: OtlpBatch, name: bytes) -> NDArray[np.float64] | None:
    """Return an attribute of the spans as a number: true is 1, text is parsed.

    Args:
        batch: the spans.
        name: key of the attribute.

    Returns:
        (n,) values, NaN where a span has none or one that is no number; None where
        no span has it.
    """
    rows = _rows(batch.buffer, batch.attributes, name, len(batch))
    if rows is None:
        return None
    table = batch.attributes
    values = np.full(len(batch), np.nan)
    spans = np.flatnonzero(rows >= 0)
    at = rows[spans]
    kind, number = table.type[at], table.number[at]
    whole = (kind == ValueType.INT) | (kind == ValueType.BOOL)
    values[spans[whole]] = number[whole]
    real = kind == ValueType.DOUBLE
    values[spans[real]] = number[real].view(np.float64)
    for span, row in zip(spans[kind == ValueType.STRING], at[kind == ValueType.STRING],
                         strict=True):  # fmt: skip
        start = int(table.value.offset[row])
        text = batch.buffer[start : start + int(table.value.length[row])].tobytes()
        values[span] = _parse(text)
    return values


def resource_names(batch: OtlpBatch, known: Sequence[str]) -> NDArray[np.int64]:
    """Return which of the `known` service names each span's resource has.

    Args:
        batch: the spans.
        known: values of the resource attribute `service.name`.

    Returns:
        (n,) index into `known`, -1 for any other name or none.
    """
    table = batch.resource_attributes
    rows = _rows(batch.buffer, table, b"service.name", batch.n_resources)
    found = np.full(max(batch.n_resources, 1), -1, dtype=np.int64)
    if rows is not None:
        places = {name.encode(): place for place, name in enumerate(known)}
        for resource in np.flatnonzero(rows >= 0):
            row = rows[resource]
            start = int(table.value.offset[row])
            text = batch.buffer[start : start + int(table.value.length[row])].tobytes()
            found[resource] = places.get(text, -1)
    return found[batch.resource_index]


def _rows(
    buffer: NDArray[np.uint8], table: AttributeTable, name: bytes, owners: int
) -> NDArray[np.int64] | None:
    """Return the row of the attribute `name` of each owner (-1: none); None where none has it."""
    if not len(table.owner):
        return None
    rows = np.full(owners, -1, dtype=np.int64)
    found = attribute_rows(
        frozen(buffer),
        table.key.offset,
        table.key.length,
        table.owner,
        np.frombuffer(name, dtype=np.uint8),
        rows,
    )
    return rows if found else None


def _parse(text: bytes) -> float:
    lowered = text.strip().lower()
    if lowered in {b"true", b"false"}:
        return float(lowered == b"true")
    try:
        return float(lowered)
    except ValueError:
        return np.nan
