"""Until steady at each start; a later burst goes on from where the one before it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bench_runner import warmup
from bench_runner.outcome import Notebook
from bench_runner.warmup import MOST_WARMUP_BATCHES, warm_up
from engines.target import HeldServer
from tests.fakes.jobs import run_spec


class Batches:
    """A batch of a run whose warm-up has the given rates, one after the other."""

    def __init__(self, *rates: float, wanted: int | str = "auto", simulated: bool = False) -> None:
        spec = run_spec()
        self.spec = spec.model_copy(update={"workload": spec.workload.model_copy(update={"warmup_batches": wanted})})
        self.target = SimpleNamespace(facts=SimpleNamespace(simulated=simulated))
        self.rates = list(rates)
        self.notebook = Notebook(self.spec, datetime.now(UTC))

    def draw(self, stream: str) -> str:
        return stream

    @contextmanager
    def send(self, drawn: str) -> Iterator[float]:
        yield self.rates.pop(0)

    def decode(self, drawn: str, outcome: float) -> list[Any]:
        return []

    def warm(self, held: HeldServer | None = None) -> list[float | None]:
        """The rates of the batches that were sent."""
        warm_up(self, self.notebook, held)  # type: ignore[arg-type]
        return self.notebook.warmup_output_tokens_per_s


@pytest.fixture(autouse=True)
def rates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's outcome is its rate."""
    monkeypatch.setattr(warmup, "raise_early_end", lambda outcome: None)
    monkeypatch.setattr(warmup, "facts_of", lambda spec, outcome, drawn, sent: outcome)
    monkeypatch.setattr(
        warmup, "summarise", lambda records, rate: ({"output_tokens_per_s": rate, "successes": 1}, None)
    )


def test_batches_are_thrown_away_until_two_in_a_row_agree() -> None:
    assert Batches(50, 90, 99, 100, 100).warm() == [50, 90, 99, 100]


def test_a_later_burst_of_a_start_needs_one_batch_where_the_engine_stayed_as_it_was() -> None:
    held = HeldServer()
    assert Batches(50, 99, 100).warm(held) == [50, 99, 100]
    assert Batches(101).warm(held) == [101]
    assert Batches(80, 99, 100).warm(held) == [80, 99, 100], "it did not, and is warmed until steady"


def test_another_workload_of_the_start_is_warmed_by_itself() -> None:
    held = HeldServer(warmed={"other": 100.0})
    assert Batches(100, 100).warm(held) == [100, 100]


@pytest.mark.parametrize(("wanted", "first", "later"), [(0, 0, 0), (1, 1, 1), (3, 3, 1)])
def test_a_number_of_batches_is_for_the_first_burst_of_a_start(wanted: int, first: int, later: int) -> None:
    held = HeldServer()
    assert len(Batches(10, 20, 30, wanted=wanted).warm(held)) == first
    assert len(Batches(10, 20, 30, wanted=wanted).warm(held)) == later
    assert len(Batches(10, 20, 30, wanted=wanted).warm()) == wanted


def test_one_that_never_settles_is_noted() -> None:
    batches = Batches(*(2.0**k for k in range(20)))
    assert len(batches.warm()) == MOST_WARMUP_BATCHES
    assert "not warm" in batches.notebook.notes[0]


def test_a_simulated_engine_is_warm() -> None:
    batches = Batches(simulated=True)
    assert batches.warm(HeldServer()) == []
    assert "no warm-up" in batches.notebook.notes[0]
