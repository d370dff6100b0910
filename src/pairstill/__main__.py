"""`python -m pairstill` is the `pairstill` command."""

from pairstill.cli.app import main

if __name__ == "__main__":
    main()
