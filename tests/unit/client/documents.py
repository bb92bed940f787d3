"""Documents as the daemon sends them: plans, machines, use cases, the accuracy of plans."""

from __future__ import annotations

from typing import Any

GIB = 1024**3
MIB = 1024**2

RAM_BUDGET: dict[str, Any] = {
    "total_bytes": 16 * GIB,
    "available_bytes": 9 * GIB,
    "reserve_bytes": GIB // 2,
    "promised_bytes": 0,
    "use_fraction": 0.5,
    "limit_bytes": None,
    "budget_bytes": 8 * GIB,
    "because": "50% of 16.0 GiB",
}
GPU_BUDGET: dict[str, Any] = {
    "total_bytes": 2 * GIB,
    "available_bytes": 2 * GIB,
    "reserve_bytes": 64 * MIB,
    "promised_bytes": 128 * MIB,
    "use_fraction": 0.9,
    "limit_bytes": GIB,
    "budget_bytes": GIB,
    "because": "the limit set is 1.0 GiB",
}
MACHINE: dict[str, Any] = {
    "system": "Linux",
    "release": "6.1.0",
    "cpu": {
        "model": "Intel Xeon",
        "architecture": "x86_64",
        "physical_cores": 2,
        "logical_cores": 4,
        "usable_cores": 2,
        "simd": ["amx_tile", "avx2", "fma"],
        "numa_nodes": 1,
        "performance_cores": None,
        "efficiency_cores": None,
    },
    "memory": {
        "total_bytes": 16 * GIB,
        "available_bytes": 9 * GIB,
        "host_total_bytes": 64 * GIB,
        "swap_total_bytes": 0,
        "swap_free_bytes": 0,
        "limited_by": "/lilliput.slice",
        "gpu_working_set_bytes": None,
    },
    "accelerators": [],
    "accelerators_problem": None,
    "described": None,
    "bandwidth_bytes_s": 20.3e9,
    "bandwidth_cache_bound": False,
    "unified": False,
    "fingerprint": "0f3a9c1b2d4e5f60",
}
HOST: dict[str, Any] = {**MACHINE, "budget": {"ram": RAM_BUDGET}}
CARD: dict[str, Any] = {
    "name": "CUDA0",
    "description": "NVIDIA GeForce RTX 3090",
    "kind": "gpu",
    "total_bytes": 24 * GIB,
    "free_bytes": 20 * GIB,
    "backend": "CUDA",
    "device_id": "0000:c1:00.0",
    "bandwidth_bytes_s": 936e9,
    "flops": 71e12,
    "nvidia": {
        "used_bytes": 4 * GIB,
        "others_bytes": GIB,
        "utilisation_percent": 3,
        "temperature_c": 41,
        "throttle_reasons": ["power cap"],
    },
}


def needed(weights: int, kv: int, compute: int, overhead: int, *, mapped: bool = False) -> dict[str, int]:
    """What is taken of one memory; ``mapped``: its weights are the file's, as in system memory."""
    lie = {"weights_mapped": weights if mapped else 0, "weights_copied": 0, "weights_idle": 0}
    return {"weights": weights, "kv": kv, "compute": compute, "overhead": overhead} | lie


def variant(name: str, size_bytes: int, kld: float, *, fits: bool, reason: str, **more: Any) -> dict[str, Any]:
    """A variant that takes system memory alone, with 2 GiB beside its weights."""
    need = needed(size_bytes, GIB, GIB // 2, GIB // 2, mapped=True)
    told = {
        "name": name,
        "fits": fits,
        "files": [f"a-{name}.gguf"],
        "file_bytes": size_bytes,
        "exists": True,
        "need": {"ram": need},
        "total_bytes": size_bytes + 2 * GIB,
        "setting": {
            "context_tokens": 4096,
            "slots": 1,
            "kv_type": "f16",
            "gpu_layers": 0,
            "cpu_expert_layers": 0,
        },
        "offload": "none",
        "estimated": False,
        "margin_bytes": None,
        "tokens_per_s": {"low": 3.1, "mid": 3.6, "high": 4.2},
        "prompt_tokens_per_s": {"low": 30.0, "mid": 40.0, "high": 50.0},
        "quality": {
            "kld": kld,
            "dppl_percent": kld * 100,
            "top1_agreement": 0.95,
            "bits_per_weight": 4.9,
            "source": "prior by type: Llama 3 8B",
            "measured": False,
        },
        "reason": reason,
        "near_misses": [],
        "pss_bytes": size_bytes + 2 * GIB,
    }
    return told | more


Q8 = variant(
    "Q8_0",
    8 * GIB,
    0.0014,
    fits=False,
    reason="needs 2.0 GiB more than there is",
    near_misses=["fits at 2048", "fits with q8_0 KV: KLD +0.001"],
    tokens_per_s={"low": 1.2, "mid": 1.4, "high": 1.7},
)
Q4 = variant("Q4_K_M", 4 * GIB, 0.028, fits=True, reason="the best that fits")
Q2 = variant(
    "Q2_K",
    2 * GIB,
    0.332,
    fits=True,
    reason="fits, but Q4_K_M keeps more quality",
    tokens_per_s={"low": 12.2, "mid": 13.0, "high": 15.4},
)
PLAN: dict[str, Any] = {
    "model": "llama3.1:8b",
    "version": 1,
    "use_case": "general",
    "machine": MACHINE,
    "budget": {"ram": RAM_BUDGET},
    "context_tokens": 4096,
    "slots": 1,
    "objective": "floors and pins first, then quality at the target speed",
    "summary": "Q4_K_M: the best that fits",
    "variants": [Q8, Q4, Q2],
    "chosen": "Q4_K_M",
    "notes": ["weights on the CPU are memory-mapped"],
    "rope": {"scaling": "yarn", "freq_base": None, "freq_scale": 0.5, "original_tokens": None},
}
"""A machine without accelerators."""

NOTHING_FITS: dict[str, Any] = {
    **PLAN,
    "variants": [{**one, "fits": False} for one in (Q8, Q4)],
    "summary": "nothing at or above Q4_K_M fits, the floor of general; nor does anything else",
    "chosen": None,
}

_PARTLY: dict[str, Any] = {
    "need": {
        "ram": needed(4 * GIB, GIB // 2, GIB // 2, 0, mapped=True),
        "CUDA0": needed(GIB // 2, GIB // 4, GIB // 8, GIB // 16),
    },
    "total_bytes": 5 * GIB + GIB * 15 // 16,
    "setting": {"context_tokens": 4096, "slots": 2, "kv_type": "q8_0", "gpu_layers": 9, "cpu_expert_layers": 3},
    "offload": "partial",
    "pss_bytes": None,
}
GPU_PLAN: dict[str, Any] = {
    **PLAN,
    "machine": {**MACHINE, "accelerators": [CARD], "described": "pc-24gb"},
    "budget": {"ram": RAM_BUDGET, "CUDA0": GPU_BUDGET},
    "slots": 2,
    "variants": [
        {**Q8, "exists": False, "estimated": True, "margin_bytes": 256 * MIB},
        {**Q4, **_PARTLY, "quality": {**Q4["quality"], "measured": True}},
    ],
}
"""A described machine with a card, a variant that nobody has published, and one that was measured."""

MACHINES: dict[str, Any] = {
    "machines": [
        {
            "name": "pc-24gb",
            "title": "PC with a 24 GB card",
            "system": "Linux",
            "total_bytes": 32 * GIB,
            "available_bytes": 30 * GIB,
            "physical_cores": 8,
            "logical_cores": 16,
            "architecture": "x86_64",
            "cpu_model": None,
            "performance_cores": None,
            "efficiency_cores": None,
            "bandwidth_bytes_s": 51.2e9,
            "unified": False,
            "accelerators": [CARD],
            "aliases": ["pc"],
            "notes": ["an assumption"],
        }
    ]
}
USE_CASES: dict[str, Any] = {
    "use_cases": [
        {
            "name": "general",
            "title": "General chat",
            "description": "Questions and answers at reading speed.",
            "floor": "Q4_K_M",
            "start": "Q4_K_M",
            "target_tokens_per_s": 8.0,
            "context_tokens": 8192,
            "prefers": ["quality", "speed", "context"],
            "examples": ["everyday questions"],
            "aliases": ["chat"],
        },
        {"name": "coding", "title": "Coding", "description": "Syntax forgives nothing.", "floor": "Q4_K_M"},
    ]
}
ACCURACY: dict[str, Any] = {
    "accuracy": [
        {
            "architecture": "llama",
            "backend": "CPU",
            "offload": "none",
            "build": "b9000",
            "loads": 3,
            "planned": needed(100 * MIB, 20 * MIB, 10 * MIB, 20 * MIB, mapped=True),
            "measured": needed(100 * MIB, 20 * MIB, 10 * MIB, 23 * MIB, mapped=True),
            "error_percent": 2.0,
            "worst_percent": -3.5,
            "correction_bytes": 3 * MIB,
            "updated_at": 1.7e9,
            "errors_bytes": {
                "ram": {"kv": {"median": 0, "worst": -2 * MIB}, "overhead": {"median": 3 * MIB, "worst": 4 * MIB}}
            },
        }
    ]
}
