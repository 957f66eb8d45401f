"""The REST query API over the same answers as the command line."""
