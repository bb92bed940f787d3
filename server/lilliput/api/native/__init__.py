"""The native dialect: pulls as jobs, models, plans, engines, hardware, its doctor and health.

Translates only; knows the services through ``api.services`` and nothing of the other dialects.
"""

from lilliput.api.native.doctor import router as doctor
from lilliput.api.native.health import router as health
from lilliput.api.native.jobs import router as jobs
from lilliput.api.native.machine import router as machine
from lilliput.api.native.metrics import router as metrics
from lilliput.api.native.models import router as models
from lilliput.api.native.plans import router as plans
from lilliput.api.native.tunings import router as tunings
from lilliput.api.native.upkeep import router as upkeep

__all__ = ["doctor", "health", "jobs", "machine", "metrics", "models", "plans", "tunings", "upkeep"]
