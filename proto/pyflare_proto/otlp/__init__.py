"""OTLP on the wire: bytes to columns and back, without an object per span."""
