"""What this machine has now: memory that can really be had, processors, accelerators.

Owns the reading of /proc and of container limits, with psutil where those do not exist. Unknown facts are None.
It knows nothing of models, engines or budgets, and never imports llama.cpp: accelerators are told to it.
"""

from lilliput.hardware.cgroups import CgroupMemory, cpu_quota_cores, memory_limits
from lilliput.hardware.cpu import Cpu, read_cpu
from lilliput.hardware.machine import Accelerator, Hardware, fingerprint, read_hardware
from lilliput.hardware.memory import Memory, read_memory

__all__ = [
    "Accelerator",
    "CgroupMemory",
    "Cpu",
    "Hardware",
    "Memory",
    "cpu_quota_cores",
    "fingerprint",
    "memory_limits",
    "read_cpu",
    "read_hardware",
    "read_memory",
]
