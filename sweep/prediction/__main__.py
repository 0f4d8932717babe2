"""``python -m sweep.prediction MODEL FILE --out PARQUET``."""

import sys

from sweep.prediction.cli import main

if __name__ == "__main__":
    sys.exit(main())
