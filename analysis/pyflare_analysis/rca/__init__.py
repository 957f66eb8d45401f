"""Root cause: which segment fails, since when, and what the failures say."""
