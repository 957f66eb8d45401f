"""The file of a reference of the univariate tests: JSON with a format and a version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyflare_analysis.drift.profiles.profile_file import (
    column_feature,
    feature_document,
    plain_numbers,
    read_document,
    read_numbers,
    write_document,
)
from pyflare_analysis.drift.profiles.sketch import Points
from pyflare_analysis.drift.univariate.columns import UnivariateConfig
from pyflare_analysis.drift.univariate.summary import Categories, Numbers, Summary

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.columns import Feature

__all__ = ["FORMAT", "VERSION", "read_summary", "write_summary"]

FORMAT = "pyflare.drift.reference"
VERSION = 1


def write_summary(
    features: Sequence[Feature],
    summary: Summary,
    config: UnivariateConfig,
    path: str | os.PathLike[str],
) -> None:
    """Write a reference.

    Raises:
        StorageError: the file cannot be written.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "rows": summary.rows,
        "weight": summary.weight,
        "weight_squared": summary.weight_squared,
        "settings": asdict(config),
        "columns": [
            {**feature_document(feature), **_side(summary.features[feature.name])}
            for feature in features
        ],
    }
    write_document(document, path)


def _side(side: Numbers | Categories) -> dict[str, object]:
    if isinstance(side, Numbers):
        return {
            "values": plain_numbers(side.points.values),
            "weights": side.points.weights.tolist(),
            "missing": side.missing,
            "rank_error": side.rank_error,
        }
    return asdict(side)


def read_summary(
    path: str | os.PathLike[str],
) -> tuple[list[Feature], Summary, UnivariateConfig]:
    """Read a reference.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: it is no reference, damaged, or of a later version.
    """
    return read_document(path, FORMAT, VERSION, _parsed)


def _parsed(document: dict[str, Any]) -> tuple[list[Feature], Summary, UnivariateConfig]:
    features, sides = [], {}
    for entry in document["columns"]:
        feature = column_feature(entry)
        features.append(feature)
        sides[feature.name] = _numbers(entry) if feature.kind == "numeric" else _categories(entry)
    summary = Summary(
        sides, int(document["rows"]), float(document["weight"]), float(document["weight_squared"])
    )
    settings = dict(document["settings"])
    return features, summary, UnivariateConfig(**settings | {"tests": tuple(settings["tests"])})


def _numbers(entry: dict[str, Any]) -> Numbers | Categories:
    values, weights = read_numbers(entry["values"]), read_numbers(entry["weights"])
    if len(values) != len(weights):
        raise ValueError(f"{len(values)} values and {len(weights)} weights")
    return Numbers(Points(values, weights), float(entry["missing"]), float(entry["rank_error"]))


def _categories(entry: dict[str, Any]) -> Numbers | Categories:
    counts = {str(name): float(count) for name, count in entry["counts"].items()}
    return Categories(
        counts, float(entry["rest"]), float(entry["missing"]), bool(entry["weighted"])
    )
