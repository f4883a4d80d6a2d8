"""One card that simulated engines take turns on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_kill import ROOT, processes_of
from tests.fakes.card import Card, one_card
from tests.fakes.service import await_true

PROGRAMS = ("vllm", "text-generation-launcher")


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    """The engines' programs, and whoever watches the card; at the end not a process is left."""
    with one_card(tmp_path) as found:
        for program in PROGRAMS:
            simulated = f'"{sys.executable}" -m engines.simulated --profile "$PROFILE" --model "$2" --port "$6"'
            found.place(program, f'env --chdir="{ROOT}" {simulated} --speed 3')
        yield found
        await_true(lambda: not processes_of(tmp_path), 30.0, lambda: str(processes_of(tmp_path)))
