"""`python -m polarflow` is the command `polarflow`."""

from .cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
