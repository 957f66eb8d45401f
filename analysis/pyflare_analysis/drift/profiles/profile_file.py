"""The file of a profile: JSON with a format and a version, numbers exactly as they were."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pyflare_analysis.drift.profiles.columns import Feature
from pyflare_analysis.drift.profiles.profile import ColumnProfile, Profile
from pyflare_analysis.drift.profiles.sketch import Points
from pyflare_analysis.drift.psi.config import PSIConfig
from pyflare_proto.errors import InvalidDataError, NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "FORMAT",
    "VERSION",
    "column_feature",
    "feature_document",
    "is_profile_file",
    "plain_numbers",
    "profile_document",
    "read_document",
    "read_numbers",
    "read_profile",
    "write_document",
    "write_profile",
]

FORMAT = "pyflare.drift.profile"
VERSION = 1
_START = f'{{"format": "{FORMAT}"'
Parsed = TypeVar("Parsed")
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
    write_document(profile_document(profile), path)


def write_document(document: Mapping[str, object], path: str | os.PathLike[str]) -> None:
    """Write a document as JSON, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
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
        "cluster": profile.cluster,
        "columns": [_column_document(column) for column in profile.columns.values()],
    }


def feature_document(feature: Feature) -> dict[str, object]:
    """Return a feature as it stands in the files."""
    return {
        "name": feature.name,
        "kind": feature.kind,
        "column": feature.column,
        "reading": feature.reading,
    }


def column_feature(entry: dict[str, Any]) -> Feature:
    """Return the feature of a column of a file.

    Raises:
        KeyError, ValueError: it is none.
    """
    kind, reading = entry["kind"], entry["reading"]
    if kind not in {"numeric", "categorical"}:
        raise ValueError(f"kind {kind!r}")
    if reading not in {"as_is", "length", "joined", "attribute"}:
        raise ValueError(f"reading {reading!r}")
    return Feature(str(entry["name"]), kind, str(entry["column"]), reading)


def _column_document(column: ColumnProfile) -> dict[str, object]:
    head = {
        **feature_document(column.feature),
        "counts": column.counts.tolist(),
        "design_effect": column.design_effect,
    }
    if column.feature.kind == "numeric":
        return head | {
            "edges": plain_numbers(column.edges),
            "points": {
                "values": plain_numbers(column.points.values),
                "weights": column.points.weights.tolist(),
            },
        }
    return head | {
        "categories": list(column.categories),
        "distinct": column.distinct,
        "singletons": column.singletons,
        "least_share": column.least_share,
    }


def plain_numbers(values: Floats) -> list[float | str]:
    """Return numbers as JSON can hold them, the infinite ones as text."""
    return [v if math.isfinite(v) else ("inf" if v > 0 else "-inf") for v in values.tolist()]


def read_numbers(values: list[Any]) -> Floats:
    """Return what `plain_numbers` wrote."""
    return np.array([_INFINITE[v] if isinstance(v, str) else float(v) for v in values], np.float64)


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Read a profile.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: it is no profile, damaged, or of a later version.
    """
    return read_document(path, FORMAT, VERSION, _profile)


def read_document(
    path: str | os.PathLike[str],
    format_: str,
    version: int,
    parse: Callable[[dict[str, Any]], Parsed],
) -> Parsed:
    """Read a document of a format.

    Args:
        path: the file.
        format_: the format that it must have.
        version: likewise.
        parse: makes what it stands for.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: it is of another format, damaged, or of a later version.
    """
    place = Path(path)
    hint = "write it again: --ref DATA --save-profile FILE"
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"no saved reference {place}", hint=hint) from error
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"cannot read the reference {place}: {error}", hint=hint) from error
    if not isinstance(document, dict) or document.get("format") != format_:
        raise InvalidDataError(
            f"{place} is no {format_}", hint="psi and report read one kind, univariate another"
        )
    if document.get("version") != version:
        raise InvalidDataError(
            f"{place} is of version {document.get('version')}, not {version}",
            hint="write it again with this version, or read it with the later one",
        )
    try:
        return parse(document)
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise InvalidDataError(
            f"the reference {place} is damaged: {type(error).__name__}: {error}", hint=hint
        ) from error


def _profile(document: dict[str, Any]) -> Profile:
    columns = [_column(entry) for entry in document["columns"]]
    if not isinstance(document["weighted"], bool):
        raise TypeError(f"weighted is {document['weighted']!r}")
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
        cluster=document.get("cluster"),
    )


def _settings(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """Check the settings of a detector."""
    if settings is not None:
        PSIConfig(**settings)
    return settings


def _column(entry: dict[str, Any]) -> ColumnProfile:
    feature = column_feature(entry)
    counts = read_numbers(entry["counts"])
    effect = float(entry.get("design_effect", 1.0))
    if not 1 <= effect < math.inf:
        raise ValueError(f"a design effect of {effect}")
    empty = np.empty(0)
    if feature.kind == "numeric":
        edges = read_numbers(entry["edges"])
        points = entry["points"]
        parts = Points(read_numbers(points["values"]), read_numbers(points["weights"]))
        if len(counts) != len(edges) + 2 or len(parts.values) != len(parts.weights):
            raise ValueError(f"{len(counts)} counts for {len(edges)} edges")
        return ColumnProfile(feature, counts, edges, parts, design_effect=effect)
    categories = tuple(str(name) for name in entry["categories"])
    if len(counts) != len(categories) + 2:
        raise ValueError(f"{len(counts)} counts for {len(categories)} categories")
    known = entry["distinct"], entry["singletons"], float(entry["least_share"])
    return ColumnProfile(feature, counts, empty, Points(empty, empty), categories, *known, effect)
