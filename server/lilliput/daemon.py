"""The composition root: builds the rooms, serves, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import uvicorn

from lilliput import __version__
from lilliput.api import ApiOptions, Services, create_app, warm_up
from lilliput.catalogue import DataDirectoryLock, Families, Store
from lilliput.errors import LilliputError
from lilliput.fit import Budget, MemoryNeed, QualityTable, UseCases
from lilliput.hardware import Hardware, Machines, PressureReader, fingerprint, read_cpu, read_hardware, read_tables
from lilliput.hub import Hub
from lilliput.llama import Rung, build_digest, rungs_of
from lilliput.logs import set_up_logging
from lilliput.pool import Holding, LoadReport, MemoryWatch, Pool, PoolSettings, UseReport
from lilliput.services import (
    PREFIX_FOLDER,
    Accuracy,
    Devices,
    Drafting,
    Embedder,
    Engines,
    Garbage,
    Generator,
    Jobs,
    LoadPlans,
    Metrics,
    Models,
    Oracle,
    Outdated,
    OwnFiles,
    Patient,
    PlanDefaults,
    Planner,
    Plans,
    Pulls,
    Remembered,
    Repacks,
    Sites,
    Speeds,
    StandIns,
    TuneSite,
    Tunings,
    Verifications,
    budget_json,
    list_devices,
    make_doctor,
    tune_needs,
)
from lilliput.serving import Server, address, listen
from lilliput.settings import Settings
from lilliput.shipped import shipped

log = logging.getLogger(__name__)

FAMILIES_FILE = "families.toml"
SWITCH_S = 0.001
"""How long a thread that computes may keep the interpreter from the event loop: the usual 5 ms, several times a turn,
would make streams stutter while a plan is made.
"""

LAST_WORDS_S = 5
"""Seconds after the drain in which streams write their error and their end."""


class Daemon:
    """One daemon: its rooms, built but not started. ``run`` serves until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._drained = asyncio.Event()
        self._ready = False
        self._store = Store(settings.data_dir)
        remembered = Remembered(self._store)
        self._hub = Hub()
        cpu, build = read_cpu(), build_digest()
        machine, threads = fingerprint(cpu), settings.threads or cpu.compute_threads
        rungs = rungs_of(cpu.simd)
        families = Families(
            [path for path in (shipped(FAMILIES_FILE), settings.data_dir / FAMILIES_FILE) if path.is_file()]
        )
        machines = Machines.from_mapping(read_tables(shipped("machines.toml")))
        use_cases = UseCases.from_mapping(read_tables(shipped("use_cases.toml")))
        quality = QualityTable.from_mapping(read_tables(shipped("quality.toml")))
        defaults = _plan_defaults(settings)
        self._speeds = Speeds(
            remembered,
            machine,
            build,
            threads,
            lambda: self._pool.computing,
            probing=settings.measure == "idle",
        )
        self._devices = Devices(list_devices, self._holdings, on_listed=self._speeds.on_accelerators)
        self._accuracy = Accuracy(self._store, build)
        self._sites = Sites(
            self._read_hardware, machines, defaults, self._speeds, self._holdings, self._devices.refresh
        )
        oracle = Oracle(remembered, build, lambda: [one.name for one in self._devices.accelerators])
        self._repacks = Repacks(remembered, machine, build, rungs)
        planner = Planner(
            oracle,
            self._sites,
            quality,
            use_cases,
            defaults,
            self._accuracy,
            on_types=self._speeds.want,
            repacks=self._repacks,
        )
        numbers = (threads,) if settings.threads else _trial_threads(threads)
        site = TuneSite(machine, build, rungs, numbers, numbers, partial(tune_needs, planner), self._reserve)
        self._tunings = Tunings(self._store, site, lambda: self._pool.computing, probing=settings.measure == "idle")
        self._plans = Plans(self._hub, self._store, families, planner)
        self._jobs = Jobs(self._store, {"pull": settings.pull_parallelism, "verify": settings.verify_parallelism})
        self._models = Models(self._store, families, self._hub.remove, choose=self._plans.best_installed)
        pulls = Pulls(self._jobs, self._store, self._hub, self._plans, families, self._models)
        self._pool = Pool(
            _pool_settings(settings, threads, machine, build, rungs),
            self._budgets,
            LoadPlans(self._store, planner, defaults, self._tunings.of, Drafting(self._models.resolve, planner)),
            remembered,
            self._on_loaded,
            self._on_used,
            self._tunings.make_way,
        )
        pool = self._pool
        self._watch = MemoryWatch(PressureReader().read, pool.relief, pool.steps, settings.memory_reserve)
        stand_ins = StandIns(self._store, families, use_cases, quality, self._plans, pool.steps)
        self._engines = Engines(self._models, pool, self._tunings, self._store, stand_ins)
        metrics = Metrics(self._engines.list, lambda: pool.relief.now, lambda: pool.steps.counts)
        examined = Patient(
            settings.model_dump(),
            machine,
            build,
            self._store,
            self._hub,
            self._pool,
            self._devices,
            self._read_hardware,
        )
        self._doctor = make_doctor(examined)
        services = Services(
            generator=Generator(
                self._models,
                self._pool,
                self._speeds.note,
                speculation=settings.speculation == "auto",
                on_end=metrics.note,
                stand_ins=stand_ins,
            ),
            embedder=Embedder(self._models, self._pool),
            pulls=pulls,
            garbage=Garbage(self._store, self._jobs, self._hub, OwnFiles(settings.data_dir, [self._hub.cache_dir])),
            outdated=Outdated(self._models, self._hub),
            verifications=Verifications(self._jobs, self._store, self._models, self._hub),
            jobs=self._jobs,
            models=self._models,
            plans=self._plans,
            engines=self._engines,
            hardware=self._hardware_json,
            doctor=self._doctor.examine,
            accuracy=self._accuracy.table,
            machines=tuple(machines),
            use_cases=use_cases.all,
            ready=lambda: self._ready and self._devices.looked,
            metrics=metrics.exposition,
            version=__version__,
        )
        self.app = create_app(services, stop=self._stop, drained=self._drained, options=_options(settings))

    async def run(self, on_live: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM; ``on_live`` gets the base URL once requests are answered.

        A second signal ends at once. Raises StorageError, InvalidRequest.
        """
        settings = self._settings
        sys.setswitchinterval(SWITCH_S)
        with DataDirectoryLock(settings.data_dir), listen(settings.host, settings.port) as listener:
            await asyncio.to_thread(self._store.open)
            async with self._rooms():
                config = uvicorn.Config(
                    self.app,
                    log_config=None,
                    access_log=False,
                    timeout_graceful_shutdown=math.ceil(settings.drain_s) + LAST_WORDS_S,
                    lifespan="off",
                )
                gc.freeze()  # what is there now stays: looking through it again and again would hold up the loop
                server = Server(config, self._on_shutdown, lambda: on_live(address(listener)))
                await server.serve(sockets=[listener])

    def _on_shutdown(self) -> None:
        """No new work; answers under way may go on for the drain time, then they end with an error in-band."""
        self._ready = False
        self._stop.set()
        asyncio.get_running_loop().call_later(self._settings.drain_s, self._drained.set)

    @contextlib.asynccontextmanager
    async def _rooms(self) -> AsyncIterator[None]:
        """What must be there before the first request; all of it ends with the block."""
        try:
            await self._models.register_embedded()
            await self._accuracy.load()
            await self._speeds.load()
            await self._jobs.start()
            looking = asyncio.gather(self._devices.run(), self._hub.warm_up(), asyncio.to_thread(warm_up))
            looking.add_done_callback(lambda _: gc.freeze())
            loading = asyncio.create_task(self._engines.load_pinned())
            if self._settings.memory_watch == "on":
                self._watch.start()
            self._ready = True
            yield
            looking.cancel()
            loading.cancel()
        finally:
            self._ready = False
            await self._jobs.aclose()
            await self._doctor.aclose()
            await self._watch.aclose()
            await self._pool.aclose()
            await self._plans.aclose()
            await self._speeds.aclose()
            await self._tunings.aclose()
            await self._repacks.aclose()
            await self._hub.aclose()
            await asyncio.to_thread(self._store.close)

    def _reserve(
        self, key: str, needs: Mapping[str, MemoryNeed], *, evict: bool
    ) -> contextlib.AbstractAsyncContextManager[None]:
        return self._pool.reserve(key, needs, evict=evict)

    def _holdings(self) -> Sequence[Holding]:
        return self._pool.holdings()

    def _read_hardware(self) -> Hardware:
        engines = (engine.pid for engine in self._pool.list())
        bandwidth = self._speeds.bandwidth
        return read_hardware(
            accelerators=self._devices.accelerators,
            accelerators_problem=self._devices.problem,
            own_pids=[pid for pid in engines if pid is not None],
            bandwidth_bytes_s=bandwidth.bytes_s if bandwidth else None,
            bandwidth_cache_bound=bandwidth.cache_bound if bandwidth else None,
        )

    async def _hardware_json(self) -> Mapping[str, Any]:
        await self._speeds.measured_bandwidth()
        site = await self._sites.find(None, None)
        budgets = {name: budget_json(budget) for name, budget in site.budgets.items()}
        return {**site.hardware.to_json(), "budget": budgets}

    async def _budgets(self) -> Mapping[str, Budget]:
        """What may be used now, without what engines were promised: the pool keeps that ledger itself."""
        await self._devices.refresh()
        return await asyncio.to_thread(lambda: self._sites.budgets(self._read_hardware()))

    def _on_loaded(self, report: LoadReport) -> None:
        rung = report.loaded.rung
        self._speeds.want(report.plan.tensor_types, rung=rung)
        if report.plan.role == "generate" and not report.plan.gpu_layers:
            self._tunings.want(report.model, rung=rung)

    async def _on_used(self, report: UseReport) -> None:
        if report.plan.role != "generate" or report.plan.draft:  # other or more contexts: they would teach wrong things
            return
        try:
            await self._accuracy.note(report, time.time())
        except LilliputError as error:
            log.warning("what the engine of %s took could not be kept: %s", report.model.name, error)


def serve(settings: Settings) -> int:
    """Run a daemon until it is told to stop; returns the exit status. What goes wrong at the start is printed."""
    set_up_logging(settings.log_level, settings.log_format)
    # Set before huggingface_hub is imported: without it, its first call reports to the Hub.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(settings))
    except LilliputError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve(settings: Settings) -> None:
    await Daemon(settings).run(_greet)


def _greet(url: str) -> None:
    sys.stdout.write(
        f"lilliput {__version__} is live at {url} (API documentation: {url}/docs). Try:\n\n"
        f"  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        """    -d '{"model": "smollm2:135m", "stream": true, """
        """"messages": [{"role": "user", "content": "Tell me about the sea."}]}'\n\n"""
    )
    sys.stdout.flush()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one, else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _trial_threads(threads: int) -> tuple[int, ...]:
    """The usual number of threads, and others worth a trial: memory is often saturated by fewer."""
    return tuple(dict.fromkeys(count for count in (threads, threads * 3 // 4, threads // 2) if count >= 1))


def _options(settings: Settings) -> ApiOptions:
    return ApiOptions(hosts=_hosts(settings.host), request_timeout_s=settings.request_timeout_s)


def _hosts(host: str) -> tuple[str, ...]:
    """Names that requests may call this daemon by, beside those of loopback."""
    return ("*",) if host in ("0.0.0.0", "::") else (host,)  # noqa: S104 - asked for by the user


def _plan_defaults(settings: Settings) -> PlanDefaults:
    return PlanDefaults(
        context_tokens=settings.context_tokens,
        slots=settings.slots,
        reserve_bytes=settings.memory_reserve,
        use_fraction=settings.memory_use_fraction,
        limit_bytes=settings.memory_limit,
        vram_reserve_bytes=settings.vram_reserve,
        vram_use_fraction=settings.vram_use_fraction,
        vram_limit_bytes=settings.vram_limit,
        store_bytes=settings.prefix_store,
    )


def _pool_settings(settings: Settings, threads: int, machine: str, build: str, rungs: tuple[Rung, ...]) -> PoolSettings:
    return PoolSettings(
        slots=settings.slots,
        keep_alive_s=settings.keep_alive_s,
        queue_limit=settings.queue_limit,
        threads=threads,
        machine=machine,
        build=build,
        rungs=rungs,
        gap_s=settings.gap_s,
        stall_s=settings.stall_s,
        caller_limit=settings.caller_limit,
        groups=tuple(frozenset(group) for group in settings.exclusive_groups),
        prefix_folder=str(settings.data_dir / PREFIX_FOLDER),
        prefix_disk_bytes=settings.prefix_disk,
    )
