"""Inputs that drifted along with an episode."""

from __future__ import annotations


def find_drift_links(*args, **kwargs):
    return []
