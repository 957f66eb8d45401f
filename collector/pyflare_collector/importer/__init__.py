"""Import files of spans: OTLP protobuf, OTLP/JSON, JSON lines, gzip of each, standard input."""

from pyflare_collector.importer.job import ImportReport, Rejection, import_files

__all__ = ["ImportReport", "Rejection", "import_files"]
