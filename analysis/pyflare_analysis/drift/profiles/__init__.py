"""What a reference looked like, and counts of other rows beside it. Open first: `profile.py`."""
