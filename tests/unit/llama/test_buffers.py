from __future__ import annotations

from lilliput.llama import CacheSize
from lilliput.llama.buffers import parse_buffers
from lilliput.units import MIB

LOAD = """\
load_tensors:   CPU_Mapped model buffer size =   235.16 MiB
load_tensors:   CPU_REPACK model buffer size =    12.66 MiB
llama_context:        CPU  output buffer size =     9.00 MiB
llama_kv_cache_iswa: creating non-SWA KV cache, size = 2048 cells
llama_kv_cache:        CPU KV buffer size =     6.00 MiB
llama_kv_cache: size =    6.00 MiB (  2048 cells,   3 layers,  9/1 seqs), K (f16):    3.00 MiB, V (f16):    3.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 2048 cells
llama_kv_cache:        CPU KV buffer size =    30.00 MiB
llama_kv_cache: size =   30.00 MiB (  2048 cells,  15 layers,  9/1 seqs), K (f16):   15.00 MiB, V (f16):   15.00 MiB
sched_reserve:        CPU compute buffer size =   514.50 MiB
sched_reserve: graph nodes  = 936
"""


def test_the_buffers_of_a_load_are_added_up_by_name() -> None:
    buffers = parse_buffers(LOAD.splitlines())
    assert buffers.weights == {"CPU_Mapped": round(235.16 * MIB), "CPU_REPACK": round(12.66 * MIB)}
    assert buffers.kv == {"CPU": 36 * MIB}
    assert buffers.compute == {"CPU": round(514.5 * MIB)}
    assert buffers.output == {"CPU": 9 * MIB}


def test_caches_are_told_apart_by_their_kind() -> None:
    buffers = parse_buffers(LOAD.splitlines())
    whole, window = buffers.caches
    assert whole == CacheSize("attention", 6 * MIB, 2048, 3)
    assert window == CacheSize("window", 30 * MIB, 2048, 15)
    assert buffers.cache_bytes == 36 * MIB


def test_recurrent_state_is_a_cache_of_its_own() -> None:
    lines = [
        "llama_kv_cache: size =  256.00 MiB (  8192 cells,   8 layers,  4/1 seqs), K (f16): 128.00 MiB",
        "llama_memory_recurrent:        CPU RS buffer size =   201.00 MiB",
        "llama_memory_recurrent: size =  201.00 MiB (     4 cells,  32 layers,  4 seqs), R (f32): 9.00 MiB",
    ]
    buffers = parse_buffers(lines)
    assert [(cache.kind, cache.cells) for cache in buffers.caches] == [("attention", 8192), ("recurrent", 4)]
    assert buffers.cache_bytes == 457 * MIB
    assert buffers.kv == {"CPU": 201 * MIB}


def test_scratch_that_is_told_again_is_not_added() -> None:
    lines = [
        "sched_reserve:    Vulkan0 compute buffer size =   100.00 MiB",
        "sched_reserve: Vulkan_Host compute buffer size =     8.00 MiB",
        "sched_reserve:    Vulkan0 compute buffer size =    90.00 MiB",
    ]
    assert parse_buffers(lines).compute == {"Vulkan0": 90 * MIB, "Vulkan_Host": 8 * MIB}


def test_parts_of_a_split_file_are_added() -> None:
    lines = ["load_tensors:   CPU_Mapped model buffer size =   10.00 MiB"] * 2
    assert parse_buffers(lines).weights == {"CPU_Mapped": 20 * MIB}


def test_other_lines_say_nothing() -> None:
    said = ["", "print_info: file size   = 92.10 MiB (5.74 BPW)", "load: token to piece cache size = 0.3170 MB"]
    buffers = parse_buffers(said)
    assert not buffers.weights
    assert not buffers.compute
    assert not buffers.output
    assert buffers.caches == ()
    assert buffers.cache_bytes == 0
