"""Receive, sample, batch, normalise and write spans."""
