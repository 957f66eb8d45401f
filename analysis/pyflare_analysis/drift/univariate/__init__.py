"""Tests of single columns. Open first: `columns.py`."""
