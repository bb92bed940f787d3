"""Owns the way to talk to a daemon from Python: ``Client`` and ``AsyncClient``, their results and their errors.

It speaks HTTP only and knows nothing of the daemon's own package. Names are imported when they are first used, so that
the command line's help does not wait for the HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lilliput_client.async_client import AsyncClient
    from lilliput_client.client import Client
    from lilliput_client.errors import (
        AccessDenied,
        ApiError,
        Busy,
        ConnectionLost,
        DaemonUnreachable,
        DoesNotFit,
        InvalidAddress,
        InvalidRequest,
        JobCancelled,
        JobFailed,
        LilliputClientError,
        NotFound,
        ProtocolError,
    )
    from lilliput_client.findings import Finding, Report
    from lilliput_client.machines import Accelerator, Budget, Cpu, Hardware, Host, Machine, Memory, NvidiaDetails
    from lilliput_client.plans import (
        Accuracy,
        Deviation,
        LoadWanted,
        Need,
        Plan,
        PlanWanted,
        Quality,
        Rope,
        Setting,
        Speed,
        UseCase,
        Variant,
    )
    from lilliput_client.tunings import LoadChoices, Trial, Tuning
    from lilliput_client.upkeep import FileChange, FileReport, Freshness, Garbage, Leftover, Pruned, file_reports
    from lilliput_client.values import (
        Answer,
        Delta,
        Embeddings,
        Engine,
        Job,
        JobError,
        Model,
        ModelDetails,
        ModelFile,
        Options,
        PromptDetails,
        Usage,
    )

__all__ = [
    "Accelerator",
    "AccessDenied",
    "Accuracy",
    "Answer",
    "ApiError",
    "AsyncClient",
    "Budget",
    "Busy",
    "Client",
    "ConnectionLost",
    "Cpu",
    "DaemonUnreachable",
    "Delta",
    "Deviation",
    "DoesNotFit",
    "Embeddings",
    "Engine",
    "FileChange",
    "FileReport",
    "Finding",
    "Freshness",
    "Garbage",
    "Hardware",
    "Host",
    "InvalidAddress",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "Leftover",
    "LilliputClientError",
    "LoadChoices",
    "LoadWanted",
    "Machine",
    "Memory",
    "Model",
    "ModelDetails",
    "ModelFile",
    "Need",
    "NotFound",
    "NvidiaDetails",
    "Options",
    "Plan",
    "PlanWanted",
    "PromptDetails",
    "ProtocolError",
    "Pruned",
    "Quality",
    "Report",
    "Rope",
    "Setting",
    "Speed",
    "Trial",
    "Tuning",
    "Usage",
    "UseCase",
    "Variant",
    "file_reports",
]

_MODULES = (
    "errors",
    "values",
    "plans",
    "tunings",
    "machines",
    "upkeep",
    "findings",
    "client",
    "async_client",
)  # the light ones first


if not TYPE_CHECKING:  # or a misspelt name would pass for one that is here

    def __getattr__(name: str) -> object:
        if name in __all__:
            for module in _MODULES:
                found = getattr(import_module(f"lilliput_client.{module}"), name, None)
                if found is not None:
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
