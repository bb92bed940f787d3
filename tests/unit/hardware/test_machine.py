from __future__ import annotations

import json
from dataclasses import replace

from lilliput.hardware import Accelerator, Cpu, fingerprint, read_hardware

CPU = Cpu("Example 9000", "x86_64", 4, 8, 8, ("avx2", "fma"))


def test_the_fingerprint_names_the_machine_and_not_its_momentary_state() -> None:
    assert fingerprint(CPU) == fingerprint(replace(CPU, usable_cores=2))
    assert len(fingerprint(CPU)) == 16
    changed = [replace(CPU, model="Other"), replace(CPU, simd=("avx2",)), replace(CPU, physical_cores=8)]
    assert len({fingerprint(cpu) for cpu in [CPU, *changed]}) == 4


def test_the_fingerprint_of_an_unknown_processor_exists() -> None:
    assert fingerprint(Cpu(None, "", None, None, 1, None))


def test_hardware_is_plain_json_with_its_accelerators() -> None:
    card = Accelerator("CUDA0", "Example GPU", "gpu", 24 * 1024**3)
    value = json.loads(json.dumps(read_hardware(accelerators=[card]).to_json()))
    assert value["accelerators"] == [
        {"name": "CUDA0", "description": "Example GPU", "kind": "gpu", "total_bytes": 24 * 1024**3, "free_bytes": None}
    ]
    assert value["memory"]["available_bytes"] > 0
    assert value["cpu"]["usable_cores"] >= 1
    assert len(value["fingerprint"]) == 16
