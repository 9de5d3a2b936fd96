"""python -m archlab: the command line."""

from archlab.cli.main import main

main()
