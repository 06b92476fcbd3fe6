"""`python -m polyroute.cli`: the same as `polyroute`."""

from polyroute.cli.entry import main

if __name__ == "__main__":
    main()
