"""What may be wrong with this machine and this installation, and what to do about it.

Deciders (``memory``, ``processor``, ``accelerators``, ``storage``, ``network``, ``configuration``) are pure: values in,
an opinion out. ``checks`` reads what they are about, ``doctor`` runs all checks at once, each with a time limit.
"""

from lilliput.services.doctor.checks import Patient, make_doctor
from lilliput.services.doctor.doctor import Check, Doctor
from lilliput.services.doctor.finding import Finding, Opinion, Report, Verdict

__all__ = ["Check", "Doctor", "Finding", "Opinion", "Patient", "Report", "Verdict", "make_doctor"]
