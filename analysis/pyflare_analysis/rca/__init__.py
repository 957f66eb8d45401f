"""Root cause: which segment fails, since when, and what the failures say."""

from pyflare_analysis.rca.clusters import (
    ClusterAnswer,
    FailureCluster,
    FailureClusterer,
    FailureClustererConfig,
    FailureRecord,
    cluster_spans,
    cluster_table,
)
from pyflare_analysis.rca.report import RcaReport, ReportConfig, build_report

__all__ = [
    "ClusterAnswer",
    "FailureCluster",
    "FailureClusterer",
    "FailureClustererConfig",
    "FailureRecord",
    "RcaReport",
    "ReportConfig",
    "build_report",
    "cluster_spans",
    "cluster_table",
]
