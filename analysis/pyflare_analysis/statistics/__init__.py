"""Statistics that several analyses share; each formula names its source."""

from pyflare_analysis.statistics.intervals import Interval, newcombe_interval, wilson_interval
from pyflare_analysis.statistics.multiple import benjamini_hochberg

__all__ = ["Interval", "benjamini_hochberg", "newcombe_interval", "wilson_interval"]
