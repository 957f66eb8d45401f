"""Every column over windows of time. Open first: `report.py`, `heatmap.py`."""
