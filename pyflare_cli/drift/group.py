"""The group that the commands of `pyflare drift` join."""

from pyflare_cli.command import new_group

app = new_group("What changed between a reference and what came later.")
