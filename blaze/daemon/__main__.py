"""``python -m blaze.daemon``: the daemon in the foreground."""

from __future__ import annotations

import sys

from .process import main

sys.exit(main())
