"""From finished spans to a collector, without the application ever waiting for it.

    processor.py    what OpenTelemetry calls: takes finished spans into a bounded queue
    pipeline.py     two threads: one encodes, one sends; fork, flush and shutdown
    encoding.py     spans to OTLP requests of a bounded size
    http_sender.py, grpc_sender.py   one attempt to send a request, one outcome
    statistics.py   what became of every span
    messages.py     what the application's log gets about it

OpenTelemetry's own batch processor and exporters are not used, because of what they do
while a collector is away: a batch is given up after ten seconds, a flush waits without
limit, a shutdown for half a minute, failures are logged at every attempt, and nobody
can read what was lost.
"""
