"""What crosses every boundary: the span record, OTLP on the wire, and the error tree."""
