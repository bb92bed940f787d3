"""What is told of an engine: to people, and to the ledger."""

from __future__ import annotations

from lilliput.fit import RAM
from lilliput.hardware import private_bytes, resident_bytes
from lilliput.pool.policy import RESIDENCE, Holding
from lilliput.pool.resident import EngineInfo, Resident, shown_settings


def holding_of(resident: Resident, *, pinned: bool, rival: bool = False) -> Holding:
    """What the engine is promised, and what it has touched so far; one that is ``pinned`` is never idle, a ``rival``
    cannot stay beside who asks.
    """
    plan = resident.plan
    assert plan is not None
    idle = resident.users == 0 and resident.loaded is not None and not resident.stopping and not pinned
    touched = {RAM: private_bytes(resident.engine.pid)} if resident.engine and resident.engine.pid else {}
    if resident.loaded is not None:
        touched |= {name: need.total_bytes for name, need in plan.needs.items() if name != RAM}
    reload_s = resident.loaded.load_s if resident.loaded is not None else 0.0
    return Holding(
        resident.key,
        plan.reserved,
        idle,
        resident.last_used_s,
        touched,
        reload_s,
        stays_until_s=resident.loaded_s + RESIDENCE * reload_s,
        lasting=pinned,
        rival=rival,
    )


def describe(resident: Resident, *, pinned: bool) -> EngineInfo:
    """The engine as it is now."""
    engine, loaded = resident.engine, resident.loaded
    load = engine.load if engine else None
    return EngineInfo(
        model=resident.model.name,
        role=resident.role,
        quantization=resident.model.quantization,
        state=resident.state,
        pid=engine.pid if engine else None,
        context_tokens=loaded.ready.context_tokens if loaded else None,
        slots=resident.plan.running if resident.plan else resident.slots,
        active=load.active if load else 0,
        waiting=load.waiting if load else 0,
        cached_tokens=load.cached_tokens if load else 0,
        memory_bytes=resident_bytes(engine.pid) if engine and engine.pid else None,
        progress=engine.progress if engine else 0.0,
        settings=shown_settings(loaded, resident.plan) if loaded and resident.plan else {},
        loaded_at=resident.loaded_at,
        last_used_at=resident.last_used_at,
        load_s=loaded.load_s if loaded else None,
        pinned=pinned,
        expires_at=resident.expires_at,
        degraded=resident.degraded,
        by_caller=resident.places.by_caller,
        stats=engine.stats() if engine else None,
    )
