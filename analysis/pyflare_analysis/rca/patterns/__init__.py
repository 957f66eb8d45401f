"""Since when it is worse. Open first: `detector.py`, `search.py`; `series.py` for any series."""
