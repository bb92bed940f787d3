"""What a variant needs, what may be used, and which variant to take: pure functions over values.

Owns the memory formula, the budget and the choice with its reasons in words and numbers.
It loads no model, reads no file or clock, starts nothing and logs nothing; the machine it hears of may be another.
"""

from lilliput.fit.budget import Budget, make_budget
from lilliput.fit.choice import Candidate, Choice, Verdict, choose, describe_need
from lilliput.fit.need import KV_TYPES, MemoryNeed, estimate_need
from lilliput.fit.quality import Quality, QualityTable, combine, is_full_precision, quality_rank
from lilliput.fit.shape import CacheLayer, Shape, shape_of
from lilliput.fit.use_cases import UseCase, UseCases, meets_floor

__all__ = [
    "KV_TYPES",
    "Budget",
    "CacheLayer",
    "Candidate",
    "Choice",
    "MemoryNeed",
    "Quality",
    "QualityTable",
    "Shape",
    "UseCase",
    "UseCases",
    "Verdict",
    "choose",
    "combine",
    "describe_need",
    "estimate_need",
    "is_full_precision",
    "make_budget",
    "meets_floor",
    "quality_rank",
    "shape_of",
]
