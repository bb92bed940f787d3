"""What this machine has now: memory that can really be had, processors, accelerators; and machines that are described.

Owns the reading of /proc, /sys, sysctl and container limits, with psutil where those do not exist; of pressure, heat,
cards and the speed of disks, too. Unknown facts are None. It knows nothing of models, engines or budgets, and never
imports llama.cpp: accelerators are told to it. The measurement of memory bandwidth, ``bandwidth.py``, is a child's work
and not imported here.
"""

from lilliput.hardware.accelerator import Accelerator, NvidiaDetails
from lilliput.hardware.cards import Card, read_cards
from lilliput.hardware.cgroups import CgroupMemory, cpu_quota_cores, memory_limits
from lilliput.hardware.cpu import Cpu, read_cpu
from lilliput.hardware.disk_speed import DiskSpeed, measure_disk
from lilliput.hardware.heat import Heat, Zone, read_heat
from lilliput.hardware.machine import Hardware, fingerprint, read_hardware
from lilliput.hardware.machines import Machine, Machines, load_machine, read_tables
from lilliput.hardware.memory import Memory, default_gpu_working_set_bytes, read_memory
from lilliput.hardware.nvidia import with_nvidia
from lilliput.hardware.oom import oom_kills
from lilliput.hardware.pressure import Level, Pressure, PressureReader, Stalls
from lilliput.hardware.processes import private_bytes, resident_bytes

__all__ = [
    "Accelerator",
    "Card",
    "CgroupMemory",
    "Cpu",
    "DiskSpeed",
    "Hardware",
    "Heat",
    "Level",
    "Machine",
    "Machines",
    "Memory",
    "NvidiaDetails",
    "Pressure",
    "PressureReader",
    "Stalls",
    "Zone",
    "cpu_quota_cores",
    "default_gpu_working_set_bytes",
    "fingerprint",
    "load_machine",
    "measure_disk",
    "memory_limits",
    "oom_kills",
    "private_bytes",
    "read_cards",
    "read_cpu",
    "read_hardware",
    "read_heat",
    "read_memory",
    "read_tables",
    "resident_bytes",
    "with_nvidia",
]
