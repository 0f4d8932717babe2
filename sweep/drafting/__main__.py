"""``python -m sweep.drafting DATA``."""

import sys

from sweep.drafting.cli import main

if __name__ == "__main__":
    sys.exit(main())
