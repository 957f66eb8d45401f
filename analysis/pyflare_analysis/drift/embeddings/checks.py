"""Vectors as the detectors take them, checked once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pyflare_analysis.drift.embeddings.pooled import Floats
from pyflare_proto.errors import InvalidDataError, SchemaError

__all__ = ["as_vectors", "same_dimensions"]

_LARGEST = 1e15
"""Squares of larger numbers, and of those below its inverse, are too much for sums in float32."""


def as_vectors(values: ArrayLike, name: str) -> Floats:
    """Return vectors as an (n, d) array of float32 or float64; no rows are no dimensions either.

    Raises:
        SchemaError: no table of numbers, or rows of different lengths.
        InvalidDataError: NaN or infinity, which numbers beyond the range of the array's type
            have become, the message has the first such row; or a largest number beyond 1e15 or
            below 1e-15.
    """
    try:
        array = np.asarray(values)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise SchemaError(
            f"{name}: not a table of vectors of one length: {error}",
            hint="give an array of shape (rows, dimensions)",
        ) from error
    if array.size == 0:
        return np.empty((0, array.shape[1] if array.ndim == 2 else 0), np.float32)
    if array.ndim != 2:
        raise SchemaError(
            f"{name}: an array of shape {array.shape}",
            hint="give an array of shape (rows, dimensions)",
        )
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InvalidDataError(
            f"{name}: {int((~finite).sum())} of {len(array)} vectors hold NaN, infinity, or a "
            f"number beyond {np.finfo(array.dtype).max:.2g}, the largest of {array.dtype}; "
            f"the first is row {row}",
            hint="leave these rows out, embed their text again, or scale to numbers of about 1",
        )
    largest = float(np.abs(array).max())
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
        raise InvalidDataError(
            f"{name}: the largest number is {largest:.3g}, outside of what is supported, "
            f"{1 / _LARGEST:g} to {_LARGEST:g}: squares of such overflow or vanish in float32",
            hint="scale the vectors to numbers of about 1",
        )
    return array


def same_dimensions(reference: Floats, current: Floats) -> None:
    """Check that two samples can be compared.

    Raises:
        SchemaError: they have different dimensions.
    """
    if len(reference) and len(current) and reference.shape[1] != current.shape[1]:
        raise SchemaError(
            f"the reference has {reference.shape[1]} dimensions, "
            f"the current vectors {current.shape[1]}",
            hint="embed both with the same model",
        )
