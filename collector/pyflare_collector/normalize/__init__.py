"""Normalisation: from the conventions in the wild to the one span record."""
