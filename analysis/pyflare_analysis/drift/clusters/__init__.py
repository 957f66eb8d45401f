"""Rows that are not independent. Open first: `effects.py` (what they are worth)."""
