"""What the failures say. Open first: `clusterer.py`, `templates.py`."""
