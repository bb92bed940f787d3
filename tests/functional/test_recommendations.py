"""The recommendations in the documentation are what the planner says."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.recommendations import DOCUMENT, Answers, ask, write

pytestmark = pytest.mark.functional


@pytest.fixture(scope="module")
def answers() -> Answers:
    return asyncio.run(ask())


def test_the_document_is_what_the_planner_says_now(answers: Answers) -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == write(answers)


def test_each_of_the_four_machines_gets_a_right_answer_for_a_70b_model(answers: Answers) -> None:

    def chosen(machine: str, case: str = "general") -> str | None:
        return answers.plans["Llama 3.1 70B", machine, case].chosen

    assert chosen("macbook-m2-16gb") is None
    assert chosen("macbook-m3-32gb") is None
    assert chosen("pc-32gb-24gb-vram") == "Q4_K_M"
    assert chosen("pc-64gb-workstation") == "Q4_K_M"
    laptop = answers.plans["Llama 3.1 70B", "macbook-m3-32gb", "general"]
    assert not laptop.variant("Q4_K_M").fits
    assert laptop.variant("Q4_K_M").file_bytes > laptop.budget["ram"].total_bytes
