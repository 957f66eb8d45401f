"""Root cause: which segment fails, since when, and what the failures say."""

from pyflare_analysis.rca.attribution.sources import attribute_spans, attribute_table
from pyflare_analysis.rca.clusters.clusterer import (
    ClusterAnswer,
    FailureCluster,
    FailureClusterer,
    FailureClustererConfig,
    FailureRecord,
    cluster_spans,
    cluster_table,
)
from pyflare_analysis.rca.patterns.detector import PatternDetector, PatternReport
from pyflare_analysis.rca.patterns.pattern import Pattern, PatternDetectorConfig, PatternType
from pyflare_analysis.rca.report.page import RcaReport, ReportConfig, build_report
from pyflare_analysis.rca.slices.analyzer import (
    SliceAnalysisResult,
    SliceAnalyzer,
    SliceAnalyzerConfig,
    SliceDimension,
    SliceMetric,
)

__all__ = [
    "ClusterAnswer",
    "FailureCluster",
    "FailureClusterer",
    "FailureClustererConfig",
    "FailureRecord",
    "Pattern",
    "PatternDetector",
    "PatternDetectorConfig",
    "PatternReport",
    "PatternType",
    "RcaReport",
    "ReportConfig",
    "SliceAnalysisResult",
    "SliceAnalyzer",
    "SliceAnalyzerConfig",
    "SliceDimension",
    "SliceMetric",
    "attribute_spans",
    "attribute_table",
    "build_report",
    "cluster_spans",
    "cluster_table",
]
