"""``python -m benchmarks.peers``."""

import signal
import sys

from .program import main

if __name__ == "__main__":
    # Ended from outside, it ends its children too, of which all but one are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
