"""`python -m pairstill` is the `pairstill` command."""

from pairstill.cli.app import main

main()
