"""``python -m blaze``: the same program as ``blazed``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
