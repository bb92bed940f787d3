"""A daemon that is killed again and again, at any moment, while it answers and pulls."""

from __future__ import annotations

import os
import random
import threading
import time
from functools import partial
from pathlib import Path

import httpx
import psutil
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer, RepositoryConfig
from tests.support.pulling import QUICK, installed
from tests.support.variants import make_variants
from tests.support.watching import wait_until

KILLS = int(os.environ.get("LILLIPUT_CHAOS_KILLS", "50"))
REPOSITORY = "tiny/SmolLM2-GGUF"


def load(url: str, over: threading.Event) -> None:
    """Ask, pin, pull and list until it is over; a daemon that is gone is what this is about."""
    draw = random.Random(threading.get_ident())
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        while not over.is_set():
            try:
                act = draw.randrange(4)
                if act == 0:
                    http.post("/v1/completions", json={"model": "smollm2", "prompt": "one", "max_tokens": 16})
                elif act == 1:
                    http.post("/lilliput/pulls", json={"model": REPOSITORY})
                elif act == 2:
                    http.get("/lilliput/models")
                else:
                    http.get("/lilliput/jobs")
            except httpx.HTTPError:
                time.sleep(0.05)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def is_pinned(url: str) -> bool:
    told = httpx.get(f"{url}/lilliput/engines", timeout=30, trust_env=False).json()
    return any(one["pinned"] for one in told["engines"])


def test_it_comes_back_each_time_with_what_it_had_acknowledged_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "variants").mkdir()
    variants = make_variants(tmp_path / "variants")
    draw = random.Random(7)
    with HubServer({REPOSITORY: RepositoryConfig(variants.served("Q4_K_M"))}) as hub:
        daemon = DaemonProcess(tmp_path / "data", hub.environment(tmp_path / "hf") | QUICK)
        daemon.start()
        over = threading.Event()
        threads = [threading.Thread(target=load, args=(daemon.url, over)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for kill in range(KILLS):
                with httpx.Client(base_url=daemon.url, timeout=30, trust_env=False) as http:
                    pinned = kill % 2 == 0
                    route = "/lilliput/pins/smollm2:135m"
                    (http.put(route) if pinned else http.delete(route)).raise_for_status()  # acknowledged
                time.sleep(draw.uniform(0, 1.5))
                children = psutil.Process(daemon.pid).children(recursive=True)
                daemon.kill()
                wait_until(partial(gone, children), 5)
                daemon.start()
                if pinned:  # what was acknowledged is still so: it is loaded by itself
                    wait_until(partial(is_pinned, daemon.url), 30)
            with httpx.Client(base_url=daemon.url, timeout=60, trust_env=False) as http:
                http.post("/lilliput/pulls", json={"model": REPOSITORY}).raise_for_status()
            wait_until(lambda: any(name.startswith(REPOSITORY) for name in installed(daemon)), 60)
            assert "Traceback" not in daemon.log
        finally:
            over.set()
            for thread in threads:
                thread.join()
            daemon.stop()
