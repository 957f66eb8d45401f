"""Drift: what changed between a reference and what came later, and whether to believe it."""

from pyflare_analysis.drift.counts import Counts, count_rows
from pyflare_analysis.drift.detector import DriftDetector, DriftResult, DriftType, Verdict
from pyflare_analysis.drift.mmd import CentroidDriftDetector, MMDConfig, MMDDriftDetector, mmd2
from pyflare_analysis.drift.profile import Profile, fit_profile, merge_profiles
from pyflare_analysis.drift.psi import PSIDriftDetector
from pyflare_analysis.drift.psi_columns import PSIColumn, psi_columns
from pyflare_analysis.drift.psi_config import PSIConfig
from pyflare_analysis.drift.univariate import UnivariateConfig
from pyflare_analysis.drift.univariate_detector import UnivariateDriftDetector

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
