"""The daemon as it is, but with null engines: ``python -m tests.bench.null_daemon`` and the daemon's flags."""

from __future__ import annotations

import sys

from lilliput.__main__ import main
from lilliput.engine import process

if __name__ == "__main__":
    process.WORKER_MODULE = "tests.bench.null_worker"
    sys.exit(main())
