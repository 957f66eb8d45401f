"""Which slices are worse than the rest, and which of them are causes. Open first: `analyzer.py`."""
