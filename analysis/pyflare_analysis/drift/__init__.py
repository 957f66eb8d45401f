"""Drift: what changed between a reference and what came later, and whether to believe it."""

from pyflare_analysis.drift.detector import DriftDetector, DriftResult, DriftType, Verdict
from pyflare_analysis.drift.embeddings.mmd import (
    CentroidDriftDetector,
    MMDConfig,
    MMDDriftDetector,
    mmd2,
)
from pyflare_analysis.drift.profiles.counts import Counts, count_rows
from pyflare_analysis.drift.profiles.profile import Profile, fit_profile, merge_profiles
from pyflare_analysis.drift.psi.columns import PSIColumn, psi_columns
from pyflare_analysis.drift.psi.config import PSIConfig
from pyflare_analysis.drift.psi.detector import PSIDriftDetector
from pyflare_analysis.drift.univariate.columns import UnivariateConfig
from pyflare_analysis.drift.univariate.detector import UnivariateDriftDetector

__all__ = [
    "CentroidDriftDetector",
    "Counts",
    "DriftDetector",
    "DriftResult",
    "DriftType",
    "MMDConfig",
    "MMDDriftDetector",
    "PSIColumn",
    "PSIConfig",
    "PSIDriftDetector",
    "Profile",
    "UnivariateConfig",
    "UnivariateDriftDetector",
    "Verdict",
    "count_rows",
    "fit_profile",
    "merge_profiles",
    "mmd2",
    "psi_columns",
]
