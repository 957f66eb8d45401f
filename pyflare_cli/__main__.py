"""`python -m pyflare_cli`: the command where its script is not on the path."""

from pyflare_cli import main

main()
