"""The event loop imports nothing for the Hub: that would hold up everybody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.hub import HubServer

_SCRIPT = """
import asyncio, json, sys, threading
from pathlib import Path
from lilliput.errors import BadFile
from lilliput.hub import Hub

loop_thread = threading.get_ident()
imported = []

class Watch:
    def find_spec(name, path=None, target=None):
        if threading.get_ident() == loop_thread:
            imported.append(name)

async def main():
    hub = Hub(cache_dir=Path(sys.argv[1]))
    sys.meta_path.insert(0, Watch)
    repository = await hub.repository("org/model")
    try:
        await hub.read_header(repository, "big.gguf")
    except BadFile:
        print(json.dumps(imported))
    await hub.aclose()

asyncio.run(main())
"""


def test_reading_from_the_hub_imports_nothing_in_the_event_loop(running_server: HubServer, tmp_path: Path) -> None:
    environment = os.environ | running_server.environment(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == []
