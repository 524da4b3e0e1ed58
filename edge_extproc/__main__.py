"""`python -m edge_extproc`: the command line of cli.py."""

from .cli import main

main()
