"""Drift: what changed between a reference and what came later, and whether to believe it."""

from pyflare_analysis.drift.detector import DriftDetector, DriftResult, DriftType, Verdict

__all__ = ["DriftDetector", "DriftResult", "DriftType", "Verdict"]
