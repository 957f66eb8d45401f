"""The group that the commands of `pyflare rca` join."""

from pyflare_cli.command import new_group

app = new_group("Which segment fails, since when, and what the failures say.")
