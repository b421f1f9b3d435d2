"""``python -m alsflow``: the same as the command ``alsflow``."""

import sys

from alsflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
