"""The population stability index. Open first: `columns.py` (the figures), `law.py` (no change)."""
