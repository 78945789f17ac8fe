"""`python -m dcharge` is the command `dcharge`."""

import sys

from dcharge.cli import main

if __name__ == "__main__":
    sys.exit(main())
