"""Our daemon as it is on a machine where it has run for a while: the model's fastest settings are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

TUNE_TIMEOUT_S = 300.0


def load_tuned(url: str, model: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Load the model (which finds the safe settings), measure it, and load it again with what was the fastest.

    Returns the engine as the daemon tells it. A daemon does the same by itself once it is idle; in a benchmark that
    would disturb the others. Raises httpx.HTTPStatusError when one of these fails.
    """
    with httpx.Client(base_url=url, timeout=TUNE_TIMEOUT_S, trust_env=False) as http:
        http.post("/lilliput/engines", json={"model": model}).raise_for_status()
        tuning = http.post("/lilliput/tune", json={"model": model}).raise_for_status().json()
        http.delete(f"/lilliput/engines/{model}")  # the measurement may have ended it
        loaded: dict[str, Any] = http.post("/lilliput/engines", json={"model": model}).raise_for_status().json()
    disturbed = " (disturbed by other programs: not used)" if tuning.get("disturbed") else ""
    settings = ", ".join(f"{name} {value}" for name, value in sorted(loaded["settings"].items()))
    tell(f"tuned{disturbed}: {settings}")
    return loaded
