"""`python -m pts` is the command `pts`."""

from pts.cli import main

main()
