"""A chart of the verdicts as SVG, drawn by hand: one bar a rule, with its spread, floor and aim."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.judge import Verdict

_LEFT, _BAR, _ROW, _TOP = 330, 420, 30, 64
_COLOURS = {"aim": "#2a8f4f", "floor": "#4c78a8", "missed": "#c44e52"}


def draw(verdicts: Sequence[Verdict], title: str) -> str:
    """The chart's text. All bars are scaled to the same place of the floor; what was not measured is left out."""
    rows = [verdict for verdict in verdicts if verdict.value is not None and verdict.rule.floor > 0]
    height = _TOP + _ROW * len(rows) + 16
    width = _LEFT + _BAR + 150
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">'
    )
    legend = "bar: median; thin line: least to largest of the pairs; solid mark: floor; dashed mark: aim; arrow: better"
    lines = [head, f'<rect width="{width}" height="{height}" fill="white"/>']
    lines += [_text(12, 24, title, size=16), _text(12, 46, legend, colour="#555")]
    for number, verdict in enumerate(rows):
        lines += _row(verdict, _TOP + _ROW * number)
    return "\n".join([*lines, "</svg>", ""])


def _row(verdict: Verdict, top: int) -> list[str]:
    value, rule = verdict.value, verdict.rule
    assert value is not None
    scale = _BAR / 2 / rule.floor
    middle = top + _ROW / 2
    median, low, high, aim = (_LEFT + min(_BAR, scale * one) for one in (value.median, value.low, value.high, rule.aim))
    floor = _LEFT + scale * rule.floor
    arrow = "→" if rule.at_least else "←"
    return [
        _text(12, middle + 4, f"{rule.title} {arrow}"),
        f'<rect x="{_LEFT}" y="{top + 7}" width="{median - _LEFT:.1f}" height="{_ROW - 14}" '
        f'fill="{_COLOURS[verdict.state]}"/>',
        _line(low, middle, high, middle, "#222", ""),
        _line(floor, top + 3, floor, top + _ROW - 3, "#222", ""),
        _line(aim, top + 3, aim, top + _ROW - 3, "#222", ' stroke-dasharray="3 2"'),
        _text(_LEFT + _BAR + 10, middle + 4, f"{shown(value.median)} (floor {shown(rule.floor)})"),
    ]


def shown(value: float) -> str:
    """A figure as people read it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if 0 < abs(value) < 1 else f"{value:.2f}"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def _text(x: float, y: float, text: str, *, size: int = 13, colour: str = "#222") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
