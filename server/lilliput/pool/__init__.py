"""The pool: which engines live.

Owns loading, reuse, keep-alive, eviction and restart, and the ledger of memory that loaded models hold. Must not know
the Hub, chat templates or HTTP, nor how names are resolved: it is handed installed models.
"""

from lilliput.pool.loading import DraftPlan, LoadPlan, LoadPlanner
from lilliput.pool.policy import Holding, evictions, fits, freed, rooms
from lilliput.pool.pool import Pool
from lilliput.pool.relief import MemoryNow
from lilliput.pool.resident import EngineInfo, Lease, LoadReport, UseReport
from lilliput.pool.settings import PoolSettings
from lilliput.pool.steps import Step, Steps
from lilliput.pool.terms import NO_DRAFT, OPEN_TERMS, Terms
from lilliput.pool.watch import MemoryWatch

__all__ = [
    "NO_DRAFT",
    "OPEN_TERMS",
    "DraftPlan",
    "EngineInfo",
    "Holding",
    "Lease",
    "LoadPlan",
    "LoadPlanner",
    "LoadReport",
    "MemoryNow",
    "MemoryWatch",
    "Pool",
    "PoolSettings",
    "Step",
    "Steps",
    "Terms",
    "UseReport",
    "evictions",
    "fits",
    "freed",
    "rooms",
]
