"""A receiver in a process of its own, so that its memory can be measured.

    python -m tests.collector.receiver_process LIMIT_BYTES MAX_IN_FLIGHT_BYTES SECONDS

Each request is held for SECONDS by an ingest that then throws it away. Prints a
line of JSON with the addresses, waits for a line on stdin, and prints a line with
the peak of resident memory over that at the start, in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from pyflare_collector.config import GrpcConfig, HttpConfig, ReceiverConfig
from pyflare_collector.ingest import IngestResult
from pyflare_collector.receiver import OtlpReceiver


def main() -> None:
    """Run until a line arrives."""
    limit, in_flight, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

    def ingest(_payload: bytes) -> IngestResult:
        time.sleep(seconds)
        return IngestResult(0)

    config = ReceiverConfig(
        grpc=GrpcConfig("127.0.0.1:0", max_recv_msg_size_bytes=limit),
        http=HttpConfig("127.0.0.1:0", max_request_body_bytes=limit),
    )
    receiver = OtlpReceiver(config, ingest, max_in_flight_bytes=in_flight)
    receiver.start()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    addresses = {"grpc": receiver.grpc_address, "http": receiver.http_address}
    print(json.dumps(addresses), flush=True)  # noqa: T201 - how it speaks to its parent
    sys.stdin.readline()
    receiver.shutdown()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    print(json.dumps({"grown_bytes": peak * 1024}), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    main()
