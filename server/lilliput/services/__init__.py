"""The use cases: pull, jobs, models, plan, generate.

The only place where catalogue, hub, fit, pool and chat meet: it gets them as ready parts and owns how they
work together. It must know nothing of HTTP or of any dialect.
"""

from lilliput.services.accuracy import Accuracy
from lilliput.services.answer import Run
from lilliput.services.devices import Devices, list_devices
from lilliput.services.doctor import Patient, make_doctor
from lilliput.services.drafting import Drafting
from lilliput.services.embed import Embedder
from lilliput.services.engines import Engines
from lilliput.services.garbage import Verdict
from lilliput.services.generate import Generator
from lilliput.services.job_handle import JobHandle, Runner
from lilliput.services.job_records import Job, JobError, JobState
from lilliput.services.jobs import Clock, Jobs
from lilliput.services.load_plans import LoadPlans
from lilliput.services.machine import Sites
from lilliput.services.metrics import Metrics
from lilliput.services.models import ModelDetails, Models
from lilliput.services.oracle import Oracle
from lilliput.services.outdated import Freshness, Outdated
from lilliput.services.own_files import PREFIX_FOLDER, OwnFiles
from lilliput.services.plan import Plans
from lilliput.services.plan_records import Plan, budget_json
from lilliput.services.plan_request import PlanDefaults, PlanRequest
from lilliput.services.planning import Planner
from lilliput.services.prune import Garbage, Pruned
from lilliput.services.pulls import Pulls
from lilliput.services.remembered import Remembered
from lilliput.services.repacks import Repacks
from lilliput.services.speeds import Speeds
from lilliput.services.stand_ins import StandIns
from lilliput.services.tune_needs import tune_needs
from lilliput.services.tuning_choice import Tuning
from lilliput.services.tunings import TuneSite, Tunings
from lilliput.services.verify import Verifications

__all__ = [
    "PREFIX_FOLDER",
    "Accuracy",
    "Clock",
    "Devices",
    "Drafting",
    "Embedder",
    "Engines",
    "Freshness",
    "Garbage",
    "Generator",
    "Job",
    "JobError",
    "JobHandle",
    "JobState",
    "Jobs",
    "LoadPlans",
    "Metrics",
    "ModelDetails",
    "Models",
    "Oracle",
    "Outdated",
    "OwnFiles",
    "Patient",
    "Plan",
    "PlanDefaults",
    "PlanRequest",
    "Planner",
    "Plans",
    "Pruned",
    "Pulls",
    "Remembered",
    "Repacks",
    "Run",
    "Runner",
    "Sites",
    "Speeds",
    "StandIns",
    "TuneSite",
    "Tuning",
    "Tunings",
    "Verdict",
    "Verifications",
    "budget_json",
    "list_devices",
    "make_doctor",
    "tune_needs",
]
