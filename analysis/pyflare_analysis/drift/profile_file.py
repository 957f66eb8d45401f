"""The file of a profile: JSON with a format and a version, numbers exactly as they were."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyflare_analysis.drift.columns import Feature
from pyflare_analysis.drift.profile import ColumnProfile, Profile
from pyflare_analysis.drift.psi_config import PSIConfig
from pyflare_analysis.drift.sketch import Points
from pyflare_proto.errors import InvalidDataError, NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FORMAT", "VERSION", "is_profile_file", "profile_document", "read_profile",
           "write_profile"]  # fmt: skip

FORMAT = "pyflare.drift.profile"
VERSION = 1
_START = f'{{"format": "{FORMAT}"'
_INFINITE = {"inf": math.inf, "-inf": -math.inf}


def is_profile_file(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a profile at a path, by its first bytes."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_START)) == _START.encode()
    except (OSError, ValueError):
        return False


def write_profile(profile: Profile, path: str | os.PathLike[str]) -> None:
    """Write a profile.

    Raises:
        StorageError: the file cannot be written.
    """
    text = json.dumps(profile_document(profile), ensure_ascii=False, allow_nan=False)
    place = Path(path)
    beside = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        beside.write_text(text + "\n", encoding="utf-8")
        beside.replace(place)
    except OSError as error:
        raise StorageError(
            f"cannot write {place}: {error.strerror}", hint="name a file in a folder that is there"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def profile_document(profile: Profile) -> dict[str, object]:
    """Return a profile as it stands in JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": profile.source,
        "rows": profile.rows,
        "weight": profile.weight,
        "weight_squared": profile.weight_squared,
        "weighted": profile.weighted,
        "num_bins": profile.num_bins,
        "min_samples_per_bin": profile.min_samples_per_bin,
        "psi_settings": profile.psi_settings,
        "columns": [_column_document(column) for column in profile.columns.values()],
    }


def _column_document(column: ColumnProfile) -> dict[str, object]:
    feature = column.feature
    head: dict[str, object] = {
        "name": feature.name,
        "kind": feature.kind,
        "column": feature.column,
        "reading": feature.reading,
        "counts": column.counts.tolist(),
    }
    if feature.kind == "numeric":
        return head | {
            "edges": _plain(column.edges),
            "points": {
                "values": _plain(column.points.values),
                "weights": column.points.weights.tolist(),
            },
        }
    return head | {
        "categories": list(column.categories),
        "distinct": column.distinct,
        "singletons": column.singletons,
    }


def _plain(values: Floats) -> list[float | str]:
    return [v if math.isfinite(v) else ("inf" if v > 0 else "-inf") for v in values.tolist()]


def _numbers(values: list[Any]) -> Floats:
    return np.array([_INFINITE[v] if isinstance(v, str) else float(v) for v in values], np.float64)


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Read a profile.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: it is no profile, damaged, or of a later version.
    """
    place = Path(path)
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no profile {place}", hint="write one: pyflare drift psi --ref R --save-profile FILE"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidDataError(
            f"cannot read the profile {place}: {error}",
            hint="write it again: pyflare drift psi --ref R --save-profile FILE",
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidDataError(f"{place} is no profile of a reference")
    if document.get("version") != VERSION:
        raise InvalidDataError(
            f"{place} is a profile of version {document.get('version')}, not {VERSION}",
            hint="write it again with this version, or read it with the later one",
        )
    try:
        return _profile(document)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise InvalidDataError(
            f"the profile {place} is damaged: {type(error).__name__}: {error}",
            hint="write it again: pyflare drift psi --ref R --save-profile FILE",
        ) from error


def _profile(document: dict[str, Any]) -> Profile:
    columns = [_column(entry) for entry in document["columns"]]
    return Profile(
        columns={column.feature.name: column for column in columns},
        rows=int(document["rows"]),
        weight=float(document["weight"]),
        weight_squared=float(document["weight_squared"]),
        num_bins=int(document["num_bins"]),
        min_samples_per_bin=int(document["min_samples_per_bin"]),
        weighted=bool(document["weighted"]),
        source=str(document["source"]),
        psi_settings=_settings(document["psi_settings"]),
    )


def _settings(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """Check the settings of a detector."""
    if settings is not None:
        PSIConfig(**settings)
    return settings


def _column(entry: dict[str, Any]) -> ColumnProfile:
    kind, reading = entry["kind"], entry["reading"]
    if kind not in {"numeric", "categorical"}:
        raise ValueError(f"kind {kind!r}")
    if reading not in {"as_is", "length", "joined", "attribute"}:
        raise ValueError(f"reading {reading!r}")
    feature = Feature(str(entry["name"]), kind, str(entry["column"]), reading)
    counts = _numbers(entry["counts"])
    empty = np.empty(0)
    if kind == "numeric":
        edges = _numbers(entry["edges"])
        points = Points(_numbers(entry["points"]["values"]), _numbers(entry["points"]["weights"]))
        if len(counts) != len(edges) + 2 or len(points.values) != len(points.weights):
            raise ValueError(f"{len(counts)} counts for {len(edges)} edges")
        return ColumnProfile(feature, counts, edges, points)
    categories = tuple(str(name) for name in entry["categories"])
    if len(counts) != len(categories) + 2:
        raise ValueError(f"{len(counts)} counts for {len(categories)} categories")
    return ColumnProfile(
        feature, counts, empty, Points(empty, empty), categories,
        entry["distinct"], entry["singletons"],
    )  # fmt: skip
