"""What a notebook holds becomes rows: frames, mappings, arrays, lists."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift import PSIDriftDetector, count_rows, fit_profile
from pyflare_analysis.drift.profiles.rows import as_frame

DATA = {"x": [1.5, 2.5, None], "c": ["a", None, "b"], "b": [True, None, False]}


def test_a_pandas_frame_has_the_columns_of_its_own() -> None:
    """Its index is none of them; a series is one column."""
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame(DATA, index=[7, 8, 9])

    assert as_frame(frame).to_dict(as_series=False) == DATA
    assert as_frame(frame[["x"]]).columns == ["x"]
    assert as_frame(frame["x"]).to_dict(as_series=False) == {"x": DATA["x"]}


def test_a_detector_takes_a_pandas_frame() -> None:
    """Fitted on one, it scores a part of it."""
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame({"x": np.random.default_rng(1).normal(size=400)})
    detector = PSIDriftDetector()
    detector.set_reference(frame)

    result = detector.compute(frame[:200])

    assert (result.reference_count, result.current_count) == (400, 200)


@pytest.mark.parametrize("kind", ["mapping", "polars", "lazy", "arrow"])
def test_all_kinds_of_columns_are_the_same_rows(kind: str) -> None:
    """Also for the functions, not only the detectors."""
    frame = pl.DataFrame({"x": np.random.default_rng(2).normal(size=100)})
    given = {
        "mapping": {"x": frame["x"].to_numpy()},
        "polars": frame,
        "lazy": frame.lazy(),
        "arrow": frame.to_arrow(),
    }[kind]

    profile = fit_profile(given)

    assert profile.columns["x"].counts.tolist() == [10] * 10 + [0]
    assert count_rows(profile, given).rows.tolist() == [100]
