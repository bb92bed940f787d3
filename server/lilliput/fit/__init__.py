"""What a variant needs, what may be used, how fast and how good it is, and which to take: pure functions over values.

Owns the memory formula, layouts and placements, the speed model, the quality table, the budget and the joint choice
with its reasons in words and numbers. It loads no model, reads no file or clock, starts nothing and logs nothing; the
machine it hears of may be another.
"""

from lilliput.fit.assemble import (
    Device,
    Offer,
    Scratch,
    Surroundings,
    in_unified_memory,
    make_candidate,
    share_out,
    split_of,
)
from lilliput.fit.budget import Budget, make_budget
from lilliput.fit.calibration import Calibration, TypeRate, assume, calibrate
from lilliput.fit.joint import Choice, Verdict, choose
from lilliput.fit.layout import Layout, layout_of, scale_layout
from lilliput.fit.need import ESTIMATE_MARGIN, KV_TYPES, MemoryNeed, estimate_need
from lilliput.fit.objective import Rank, Wish
from lilliput.fit.options import RAM, Candidate, Offload, Option, Setting
from lilliput.fit.quality import Quality, QualityTable, combine
from lilliput.fit.resident import NO_REPACKING, Copies, Repacking, copies_of, overhead_bytes, process_bytes
from lilliput.fit.shape import CacheLayer, Shape, is_encoder, shape_of
from lilliput.fit.speed import DeviceShare, Speed, SpeedForecast, observe, predict, predict_split
from lilliput.fit.traffic import LayerTraffic, Traffic, traffic_of
from lilliput.fit.traffic import scaled as scale_traffic
from lilliput.fit.use_cases import UseCase, UseCases, meets_floor

__all__ = [
    "ESTIMATE_MARGIN",
    "KV_TYPES",
    "NO_REPACKING",
    "RAM",
    "Budget",
    "CacheLayer",
    "Calibration",
    "Candidate",
    "Choice",
    "Copies",
    "Device",
    "DeviceShare",
    "LayerTraffic",
    "Layout",
    "MemoryNeed",
    "Offer",
    "Offload",
    "Option",
    "Quality",
    "QualityTable",
    "Rank",
    "Repacking",
    "Scratch",
    "Setting",
    "Shape",
    "Speed",
    "SpeedForecast",
    "Surroundings",
    "Traffic",
    "TypeRate",
    "UseCase",
    "UseCases",
    "Verdict",
    "Wish",
    "assume",
    "calibrate",
    "choose",
    "combine",
    "copies_of",
    "estimate_need",
    "in_unified_memory",
    "is_encoder",
    "layout_of",
    "make_budget",
    "make_candidate",
    "meets_floor",
    "observe",
    "overhead_bytes",
    "predict",
    "predict_split",
    "process_bytes",
    "scale_layout",
    "scale_traffic",
    "shape_of",
    "share_out",
    "split_of",
    "traffic_of",
]
