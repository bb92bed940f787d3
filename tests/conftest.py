"""What holds for all tests, before anything is imported."""

from __future__ import annotations

import os

# Tests that run the library in their own process share the cores with daemons of other tests. Threads that spin at each
# of a token's thousand barriers would then wait for whole time slices: minutes for a few tokens. So they sleep sooner.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
