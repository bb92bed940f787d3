"""The use cases: pull, jobs, models, plan, generate.

The only place where catalogue, hub, fit, pool and chat meet: it gets them as ready parts and owns how they
work together. It must know nothing of HTTP or of any dialect.
"""

from lilliput.services.engines import Engines
from lilliput.services.generate import Generator
from lilliput.services.job_handle import JobHandle, Runner
from lilliput.services.job_records import Job, JobError, JobState
from lilliput.services.jobs import Clock, Jobs
from lilliput.services.models import ModelDetails, Models
from lilliput.services.plan import Plans
from lilliput.services.plan_records import Plan, PlanDefaults
from lilliput.services.pulls import Pulls

__all__ = [
    "Clock",
    "Engines",
    "Generator",
    "Job",
    "JobError",
    "JobHandle",
    "JobState",
    "Jobs",
    "ModelDetails",
    "Models",
    "Plan",
    "PlanDefaults",
    "Plans",
    "Pulls",
    "Runner",
]
