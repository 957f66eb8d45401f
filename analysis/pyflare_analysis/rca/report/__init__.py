"""The parts of the root cause analysis as one page. Open first: `page.py`, `builder.py`."""
