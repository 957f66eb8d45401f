"""Workloads with known truth: realistic LLM traffic, planted faults, real OTLP.

    traffic = make_traffic(TrafficConfig(spans=10_000, seed=7, faults=("error-spike",)))
    for request in encode(traffic):     # bytes of ExportTraceServiceRequest
        ...
    traffic.truth()                     # what an analysis must find

The traffic is made as arrays, one row a span, from one seeded generator: the
same configuration gives the same bytes on every machine.
"""

from pyflare_collector.workload.encode import encode
from pyflare_collector.workload.faults import FAULTS
from pyflare_collector.workload.like import traffic_like
from pyflare_collector.workload.send import SendReport, send, write_file
from pyflare_collector.workload.traffic import Traffic, TrafficConfig, make_traffic

__all__ = [
    "FAULTS",
    "SendReport",
    "Traffic",
    "TrafficConfig",
    "encode",
    "make_traffic",
    "send",
    "traffic_like",
    "write_file",
]
