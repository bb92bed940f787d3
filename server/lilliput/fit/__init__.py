"""What a variant needs, what may be used, and which variant to take: pure functions over values.

Owns the memory formula, the budget and the choice with its reasons in words and numbers.
It loads no model, reads no file or clock, starts nothing and logs nothing; the machine it hears of may be another.
"""

from lilliput.fit.budget import Budget, make_budget
from lilliput.fit.calibration import Calibration, TypeRate, assume, calibrate
from lilliput.fit.choice import Candidate, Choice, Verdict, choose, describe_need
from lilliput.fit.joint import choose as choose_jointly
from lilliput.fit.need import KV_TYPES, MemoryNeed, estimate_need
from lilliput.fit.objective import Rank, Wish
from lilliput.fit.options import RAM, Offload, Option, Setting
from lilliput.fit.quality import Quality, QualityTable, combine, is_full_precision, quality_rank
from lilliput.fit.shape import CacheLayer, Shape, shape_of
from lilliput.fit.speed import DeviceShare, Speed, SpeedForecast, observe, predict, predict_split
from lilliput.fit.traffic import LayerTraffic, Traffic, scaled, traffic_of
from lilliput.fit.use_cases import UseCase, UseCases, meets_floor

__all__ = [
    "KV_TYPES",
    "RAM",
    "Budget",
    "CacheLayer",
    "Calibration",
    "Candidate",
    "Choice",
    "DeviceShare",
    "LayerTraffic",
    "MemoryNeed",
    "Offload",
    "Option",
    "Quality",
    "QualityTable",
    "Rank",
    "Setting",
    "Shape",
    "Speed",
    "SpeedForecast",
    "Traffic",
    "TypeRate",
    "UseCase",
    "UseCases",
    "Verdict",
    "Wish",
    "assume",
    "calibrate",
    "choose",
    "choose_jointly",
    "combine",
    "describe_need",
    "estimate_need",
    "is_full_precision",
    "make_budget",
    "meets_floor",
    "observe",
    "predict",
    "predict_split",
    "quality_rank",
    "scaled",
    "shape_of",
    "traffic_of",
]
