"""Drift of vectors. Open first: `pooled.py` (the pool and its splits), `comparison.py`."""
