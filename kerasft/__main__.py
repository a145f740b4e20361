"""`python -m kerasft` is the command `kerasft`."""

from kerasft.cli.main import main

main()
