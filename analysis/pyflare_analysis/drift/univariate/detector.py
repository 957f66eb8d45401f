"""The univariate tests as a detector of the notebook.

Example:
    >>> detector = UnivariateDriftDetector()
    >>> detector.set_reference({"duration_ms": last_week, "model": models})
    >>> detector.compute({"duration_ms": today, "model": models_today}).details["columns"]
"""

from __future__ import annotations

import math
import os
from typing import Any, Self

from pyflare_analysis.drift.detector import DriftResult, DriftType
from pyflare_analysis.drift.profiles.columns import Feature, feature_named, suitable_features
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_analysis.drift.univariate.columns import (
    UnivariateConfig,
    compact_summary,
    measure_columns,
    overall_verdict,
)
from pyflare_analysis.drift.univariate.summary import Summarizer, Summary, summarize_rows
from pyflare_proto.errors import SchemaError, UsageError

__all__ = ["UnivariateDriftDetector"]


class UnivariateDriftDetector:
    """Tests the distribution of each column.

    Data are what `PSIDriftDetector` takes. The reference is kept as at most 16,384 points or
    1,000 categories a column, so that a saved detector gives the same results.

    Args:
        config: settings.
    """

    def __init__(self, config: UnivariateConfig | None = None) -> None:
        self.config = config or UnivariateConfig()
        self._features: list[Feature] = []
        self._reference: Summary | None = None
        self._stream: Summarizer | None = None

    @property
    def name(self) -> str:
        """Name of the detector."""
        return "UnivariateDriftDetector"

    @property
    def type(self) -> DriftType:
        """It watches columns."""
        return DriftType.FEATURE

    def set_reference(self, reference: Any, columns: list[str] | None = None) -> None:  # noqa: ANN401 - see PSIDriftDetector
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
            columns = list(types)
        if columns is None:
            self._features = suitable_features(rows)[0]
        else:
            self._features = [feature_named(name, types) for name in columns]
        if not self._features:
            raise SchemaError(
                f"{rows.url} has no column of numbers or of categories",
                hint="name the columns to watch",
            )
        self._reference = compact_summary(summarize_rows(rows, self._features))
        self._stream = None

    def compute(self, current: Any) -> DriftResult:  # noqa: ANN401 - see PSIDriftDetector
        """Score a batch against the reference.

        Raises:
            UsageError: no reference was set.
            SchemaError: a column of the reference is not there or of another type.
        """
        self._fitted()
        summarizer = Summarizer(self._features)
        summarizer.add(as_rows(current))
        return self._result(summarizer)

    def update(self, batch: Any) -> None:  # noqa: ANN401 - see PSIDriftDetector
        """Take the next batch of a stream; `result` scores all since the last `reset`.

        Raises:
            UsageError: no reference was set.
            SchemaError: a column of the reference is not there or of another type.
        """
        self._fitted()
        if self._stream is None:
            self._stream = Summarizer(self._features)
        self._stream.add(as_rows(batch))

    def result(self) -> DriftResult:
        """Score the stream since the last `reset`.

        Raises:
            UsageError: no reference was set.
        """
        return self._result(self._stream or Summarizer(self._features))

    def reset(self) -> None:
        """Forget the stream; the reference stays."""
        self._stream = None

    def _fitted(self) -> Summary:
        if self._reference is None:
            raise UsageError("no reference was set", hint="call set_reference(data) first")
        return self._reference

    def _result(self, summarizer: Summarizer) -> DriftResult:
        reference, current = self._fitted(), summarizer.summary()
        columns = measure_columns(self._features, reference, current, self.config)
        sizes = [c.measured.effect_size for c in columns if c.measured is not None]
        q = [c.q_value for c in columns if not math.isnan(c.q_value)]
        return DriftResult(
            detector=self.name,
            type=self.type,
            verdict=overall_verdict(columns),
            score=max(sizes, default=math.nan),
            threshold=self.config.threshold,
            p_value=min(q, default=math.nan),
            reference_count=reference.rows,
            current_count=current.rows,
            details={"columns": [column.document() for column in columns]},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted reference to a small versioned file.

        Raises:
            UsageError: no reference was set.
            StorageError: the file cannot be written.
        """
        from pyflare_analysis.drift.univariate.summary_file import write_summary

        write_summary(self._features, self._fitted(), self.config, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], config: UnivariateConfig | None = None) -> Self:
        """Read a fitted detector.

        Args:
            path: what `save` wrote.
            config: settings, instead of those of the file.

        Raises:
            NotFoundError: there is no such file.
            InvalidDataError: it is none of this detector, damaged, or of a later version.
        """
        from pyflare_analysis.drift.univariate.summary_file import read_summary

        features, reference, saved = read_summary(path)
        detector = cls(config or saved)
        detector._features, detector._reference = features, reference
        return detector
