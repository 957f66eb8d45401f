"""Where a change between two periods comes from. Open first: `answer.py`, `search.py`."""
