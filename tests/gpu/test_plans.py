"""What daemons plan for each device, against models loaded as planned."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.gpu.conftest import Start
from tests.gpu.load import load
from tests.gpu.models import (
    CONTEXT_TOKENS,
    DEVICE,
    EVERY_LOAD,
    LAYERS,
    NONE,
    SEQUENCES,
    SLOTS,
    context,
    layers_of,
    loaded,
    on_cpu,
    on_device,
    path_of,
    settings,
)

from lilliput.fit import RAM
from lilliput.llama import Buffers, ModelSettings
from lilliput.units import MIB

pytestmark = pytest.mark.timeout(900)

Need = dict[str, dict[str, int]]


def plan(client: httpx.Client, model: str, **asked: Any) -> dict[str, Any]:
    """A plan at the context and slots of the loads."""
    usual: dict[str, Any] = {"context": CONTEXT_TOKENS, "slots": SLOTS, "kv": "f16", "model": model}
    answer = client.get("/lilliput/plan", params=usual | asked)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def planned(client: httpx.Client, name: str, **asked: Any) -> dict[str, Any]:
    """The one variant of a plan of one file."""
    (variant,) = plan(client, str(path_of(name)), **asked)["variants"]
    found: dict[str, Any] = variant
    return found


def near(part: str, size: int) -> Any:
    """What lies in tensors is known exactly; scratch beside a partial offload depends on types and layers a little."""
    return pytest.approx(size, abs=(4 if part.startswith("compute") else 0.1) * MIB)


def check(need: Need, real: Buffers) -> None:
    """Compare part by part. These loads repack nothing: in main memory they have what others map."""
    ram, device = need[RAM], need.get(DEVICE, {"weights": 0, "kv": 0, "compute": 0})
    told = {
        "weights in ram": (ram["weights_mapped"] + ram["weights_idle"], on_cpu(real, "weights")),
        "weights on device": (device["weights"], on_device(real, "weights")),
        "kv in ram": (ram["kv"], on_cpu(real, "kv")),
        "kv on device": (device["kv"], on_device(real, "kv")),
        "compute in ram": (ram["compute"], on_cpu(real, "compute") + on_cpu(real, "output")),
        "compute on device": (device["compute"], on_device(real, "compute") + on_device(real, "output")),
    }
    assert {part: mine for part, (mine, _) in told.items()} == {
        part: near(part, true) for part, (_, true) in told.items()
    }


@pytest.mark.parametrize(("name", "share"), EVERY_LOAD)
def test_a_plan_tells_what_each_device_will_hold(name: str, share: str, start: Start) -> None:
    variant = planned(start(), name, gpu_layers=layers_of(name, share))
    assert variant["offload"] == {"all": "full", "half": "partial", "none": "none"}[share]
    assert variant["estimated"] is False
    assert (DEVICE in variant["need"]) == (share != NONE), "without layers the device is left alone"
    check(variant["need"], loaded(name, share).buffers)


@pytest.mark.parametrize("name", ["smollm2", "gemma"])
def test_a_limit_makes_the_offload_partial_and_the_load_keeps_it(name: str, start: Start) -> None:
    whole = planned(start(), name, gpu_layers=LAYERS[name] + 1)["need"][DEVICE]
    limit = sum(whole.values()) - (whole["weights"] + whole["kv"]) // 2
    variant = planned(start(LILLIPUT_VRAM_LIMIT=str(limit)), name)
    layers = variant["setting"]["gpu_layers"]
    assert variant["fits"]
    assert variant["offload"] == "partial"
    assert 0 < layers <= LAYERS[name]
    assert sum(variant["need"][DEVICE].values()) <= limit
    check(variant["need"], load(_with_layers(name, layers), context(name)).buffers)
    one_more = planned(start(), name, gpu_layers=layers + 1)["need"][DEVICE]
    assert sum(one_more.values()) > limit, "no fewer layers than fit"


def test_a_device_too_small_for_a_layer_is_left_alone(start: Start) -> None:
    variant = planned(start(LILLIPUT_VRAM_LIMIT="70MiB"), "smollm2")
    assert (variant["fits"], variant["offload"], variant["setting"]["gpu_layers"]) == (True, "none", 0)
    assert list(variant["need"]) == [RAM]


def test_a_device_with_room_for_everything_gets_everything(start: Start) -> None:
    variant = planned(start(), "smollm2")
    assert (variant["fits"], variant["offload"]) == (True, "full")
    assert variant["setting"]["gpu_layers"] == LAYERS["smollm2"] + 1
    assert SEQUENCES["smollm2"] > SLOTS


def _with_layers(name: str, layers: int) -> ModelSettings:
    like = settings(name, NONE)
    return ModelSettings(like.path, gpu_layers=layers, rung="no-extra-buffers", memory_map=False)
