"""The file of a detector of vectors: NumPy's archive with a head in JSON."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import InvalidDataError, NotFoundError, StorageError

__all__ = ["FORMAT", "VERSION", "read_vectors", "write_vectors"]

FORMAT = "pyflare.drift.vectors"
VERSION = 1


def write_vectors(
    path: str | os.PathLike[str],
    head: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.floating[Any]]],
) -> None:
    """Write arrays and what they mean; the file appears whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    place = Path(path)
    beside = place.with_name(f"{place.name}.{os.getpid()}.part")
    text = json.dumps({"format": FORMAT, "version": VERSION, **head})
    named: dict[str, Any] = {"head": np.frombuffer(text.encode(), np.uint8), **arrays}
    try:
        with beside.open("wb") as file:
            np.savez(file, **named)
        beside.replace(place)
    except OSError as error:
        raise StorageError(
            f"cannot write {place}: {error.strerror}", hint="name a file in a folder that is there"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def read_vectors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[np.floating[Any]]]]:
    """Read what `write_vectors` wrote.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: it is another file, damaged, or of a later version.
    """
    place = Path(path)
    try:
        with np.load(place, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        head = json.loads(arrays.pop("head").tobytes())
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {place}", hint="write it with save(path)") from error
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InvalidDataError(
            f"cannot read {place}: it is no saved detector of vectors, or damaged",
            hint="write it again with save(path)",
        ) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InvalidDataError(f"{place} is no saved detector of vectors")
    if head.get("version") != VERSION:
        raise InvalidDataError(
            f"{place} is of version {head.get('version')}, not {VERSION}",
            hint="write it again with this version, or read it with the later one",
        )
    return head, arrays
