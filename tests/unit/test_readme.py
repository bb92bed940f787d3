from __future__ import annotations

from pathlib import Path

from tests.support.laptop_plan import laptop_plan

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_what_the_plan_really_says() -> None:
    assert laptop_plan() in (ROOT / "README.md").read_text(encoding="utf-8")
