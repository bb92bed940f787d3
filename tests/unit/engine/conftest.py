from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.model import smollm2_path

from lilliput.llama import ModelSettings
from lilliput.llama.library import start_library
from lilliput.llama.model import Model


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    """The real model, in this process: with settings that no CPU crashes on."""
    start_library()
    with Model(ModelSettings(str(smollm2_path()), rung="no-extra-buffers")) as loaded:
        yield loaded
