"""The population stability index: the detector of the notebook, and one feature at once.

PSI = sum over the bins of (q - p) ln(q / p), with the shares p of the reference and q of
the current values. See docs/drift.md for the bins, the law and a worked number.

Example:
    >>> detector = PSIDriftDetector(PSIConfig(threshold=0.2))
    >>> detector.set_reference({"duration_ms": last_week, "model": models})
    >>> result = detector.compute({"duration_ms": today, "model": models_today})
    >>> result.verdict, result.details["columns"][0]["psi"]
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any, Self

import numpy as np

from pyflare_analysis.drift.detector import DriftResult, DriftType
from pyflare_analysis.drift.profiles.columns import feature_named
from pyflare_analysis.drift.profiles.counts import RowCounter
from pyflare_analysis.drift.profiles.profile import Profile, fit_profile
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_analysis.drift.psi.columns import overall, psi_columns
from pyflare_analysis.drift.psi.config import PSIConfig
from pyflare_proto.errors import SchemaError, UsageError

__all__ = ["PSIDriftDetector"]

_KEPT = ("threshold", "epsilon", "alpha", "random_seed")


class PSIDriftDetector:
    """Watches the distribution of columns.

    Data are a Polars frame, lazy frame or series, an Arrow table, a pandas frame, a mapping of
    columns, a NumPy array (n,) or (n, columns), a list of values, or a `Source`.

    Args:
        config: settings.
    """

    def __init__(self, config: PSIConfig | None = None) -> None:
        self.config = config or PSIConfig()
        self._profile: Profile | None = None
        self._stream: RowCounter | None = None

    @property
    def name(self) -> str:
        """Name of the detector."""
        return "PSIDriftDetector"

    @property
    def type(self) -> DriftType:
        """It watches columns."""
        return DriftType.FEATURE

    @property
    def profile(self) -> Profile:
        """The fitted reference.

        Raises:
            UsageError: no reference was set.
        """
        if self._profile is None:
            raise UsageError("no reference was set", hint="call set_reference(data) first")
        return self._profile

    def set_reference(self, reference: Any, columns: list[str] | None = None) -> None:  # noqa: ANN401 - see the class
        """Fit on the reference.

        Args:
            reference: the data.
            columns: what to watch; every column of numbers and of categories when None.

        Raises:
            SchemaError: data that are no columns of numbers or categories.
        """
        rows = as_rows(reference)
        types = rows.columns()
        if columns is None and len(types) == 1:
            columns = list(types)  # there is no doubt what to watch
        features = None if columns is None else [feature_named(name, types) for name in columns]
        self._profile = fit_profile(
            rows,
            features,
            num_bins=self.config.num_bins,
            min_samples_per_bin=self.config.min_samples_per_bin,
        )
        if not self._profile.columns:
            self._profile = None
            raise SchemaError(
                f"{rows.url} has no column of numbers or of categories",
                hint="name the columns to watch",
            )
        self._stream = None

    def set_profile(self, profile: Profile) -> None:
        """Take a profile as the reference."""
        self._profile = profile
        self._stream = None

    def compute(self, current: Any) -> DriftResult:  # noqa: ANN401 - see the class
        """Score a batch against the reference.

        Raises:
            UsageError: no reference was set.
            SchemaError: a column of the reference is not there or of another type.
        """
        counter = RowCounter(self.profile)
        counter.add(as_rows(current))
        return self._result(counter)

    def update(self, batch: Any) -> None:  # noqa: ANN401 - see the class
        """Take the next batch of a stream; `result` scores all since the last `reset`.

        Raises:
            UsageError: no reference was set.
            SchemaError: a column of the reference is not there or of another type.
        """
        if self._stream is None:
            self._stream = RowCounter(self.profile)
        self._stream.add(as_rows(batch))

    def result(self) -> DriftResult:
        """Score the stream since the last `reset`.

        Raises:
            UsageError: no reference was set.
        """
        return self._result(self._stream or RowCounter(self.profile))

    def reset(self) -> None:
        """Forget the stream; the reference stays."""
        self._stream = None

    def _result(self, counter: RowCounter) -> DriftResult:
        counts = counter.counts()
        columns = psi_columns(self.profile, counts, self.config)
        scores = [float(column.psi_smoothed[0]) for column in columns]
        defined = [score for score in scores if not math.isnan(score)]
        q = np.array([column.q_value[0] for column in columns])
        return DriftResult(
            detector=self.name,
            type=self.type,
            verdict=overall(columns),
            score=max(defined, default=math.nan),
            threshold=self.config.threshold,
            # The smallest q-value is the p-value of Simes 1986 for "nothing changed".
            p_value=math.nan if np.isnan(q).all() else float(np.nanmin(q)),
            reference_count=self.profile.rows,
            current_count=int(counts.rows[0]),
            details={"columns": [column.document() for column in columns]},
        )

    def compute_feature_psi(self, ref_values: Any, cur_values: Any) -> float:  # noqa: ANN401 - see the class
        """Return the PSI of one feature by the seed's definition, without touching the reference.

        Args:
            ref_values: (n,) numbers or categories.
            cur_values: (m,) values of the same kind.

        Returns:
            PSI over quantile bins of `ref_values`, empty bins counted as `epsilon`; NaN where
            either side is empty.

        Raises:
            SchemaError: values of different kinds.
        """
        other = type(self)(self.config)
        other.set_reference(ref_values)
        counter = RowCounter(other.profile)
        counter.add(as_rows(cur_values))
        return float(psi_columns(other.profile, counter.counts(), self.config)[0].psi[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted reference to a small versioned file.

        Raises:
            UsageError: no reference was set.
            StorageError: the file cannot be written.
        """
        kept = {name: getattr(self.config, name) for name in _KEPT}
        replace(self.profile, psi_settings=kept).save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], config: PSIConfig | None = None) -> Self:
        """Read a fitted detector.

        Args:
            path: what `save` wrote.
            config: settings, instead of those of the file; bins are those of the file.

        Raises:
            NotFoundError: there is no such file.
            InvalidDataError: it is none of this detector, damaged, or of a later version.
        """
        profile = Profile.load(path)
        detector = cls(
            replace(
                config or PSIConfig(**(profile.psi_settings or {})),
                num_bins=profile.num_bins,
                min_samples_per_bin=profile.min_samples_per_bin,
            )
        )
        detector.set_profile(profile)
        return detector
