"""A smaller variant wholly on the device or a larger one in part: which is taken, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gpu.conftest import Start
from tests.gpu.models import DEVICE, LAYERS, variants
from tests.gpu.test_plans import plan
from tests.support.hub import HubServer, RepositoryConfig

pytestmark = pytest.mark.timeout(900)

REPO = "tiny/SmolLM2-GGUF"
SERVED = ("Q8_0", "Q5_0", "Q4_0")
"""The last of them is below the floor of the default use case, Q4_K_M."""


@pytest.fixture(scope="module", autouse=True)
def repository(hub: HubServer) -> None:
    hub.add(REPO, RepositoryConfig(variants().served(*SERVED)))


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {variant["name"]: variant for variant in answer["variants"]}


def whole_bytes(start: Start) -> dict[str, int]:
    """What each variant takes of the device when all of it lies there."""
    every = by_name(plan(start(), REPO, gpu_layers=LAYERS["smollm2"] + 1))
    return {name: sum(variant["need"][DEVICE].values()) for name, variant in every.items()}


def test_a_smaller_variant_at_the_floor_goes_wholly_onto_the_device(start: Start) -> None:
    sizes = whole_bytes(start)
    assert sizes["Q8_0"] > sizes["Q5_0"] > sizes["Q4_0"]
    answer = plan(start(LILLIPUT_VRAM_LIMIT=str((sizes["Q8_0"] + sizes["Q5_0"]) // 2)), REPO)
    found = by_name(answer)
    assert answer["chosen"] == "Q5_0"
    assert (found["Q5_0"]["offload"], found["Q8_0"]["offload"]) == ("full", "partial")
    assert f"all layers on {DEVICE}" in found["Q5_0"]["reason"]
    assert found["Q8_0"]["fits"]
    layers = found["Q8_0"]["setting"]["gpu_layers"]
    assert 0 < layers <= LAYERS["smollm2"]
    assert found["Q8_0"]["reason"] == (
        f"fits, but only with {layers} of {LAYERS['smollm2'] + 1} layers on {DEVICE}, and Q5_0 fits wholly on {DEVICE}"
    )


def test_a_larger_variant_goes_there_in_part_when_only_one_below_the_floor_fits_wholly(start: Start) -> None:
    sizes = whole_bytes(start)
    answer = plan(start(LILLIPUT_VRAM_LIMIT=str((sizes["Q5_0"] + sizes["Q4_0"]) // 2)), REPO)
    found = by_name(answer)
    assert answer["chosen"] == "Q8_0"
    assert (found["Q8_0"]["offload"], found["Q4_0"]["offload"]) == ("partial", "full")
    layers = found["Q8_0"]["setting"]["gpu_layers"]
    assert f"{layers} of {LAYERS['smollm2'] + 1} layers on {DEVICE}" in found["Q8_0"]["reason"]
    assert "is below Q4_K_M, the floor of general" in found["Q4_0"]["reason"]
    assert "Q8_0" in found["Q5_0"]["reason"]


def test_with_room_for_the_largest_there_is_nothing_to_weigh(start: Start) -> None:
    answer = plan(start(), REPO)
    assert answer["chosen"] == "Q8_0"
    assert {variant["offload"] for variant in answer["variants"]} == {"full"}
