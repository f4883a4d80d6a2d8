"""A run on a launched engine carries what the cards it occupies drew; the driver's library is a stand-in."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench_runner import runner
from bench_runner.load.contract import RunControl
from bench_runner.outcome import RunOutcome
from bench_runner.plan.spec import RunSpec
from engines.nvml import CardWatch
from engines.target import Site
from tests.fakes.nvml import Library, opened


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> RunOutcome:
    monkeypatch.setattr(runner, "CardWatch", partial(CardWatch, opened=lambda: opened(Library())))
    spec = {
        "target": {
            "engine": "vllm",
            "model": "tiny",
            "reach": {"kind": "process", "model_path": "folder/tiny"},
            "resources": ["gpu:0", "gpu:1"],
        },
        "workload": {
            "requests": 40,
            "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
            "output_tokens": {"kind": "fixed", "tokens": 8},
            "arrival": {"kind": "constant", "rate_per_s": 10},
            "warmup_batches": 0,
        },
        "calibration": False,
        "scrape_interval_s": 0.05,
    }
    return runner.run(RunSpec.model_validate(spec | more), control=RunControl(), site=Site(tmp_path / "state"))


def test_a_run_tells_what_its_cards_drew_and_what_a_token_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, monkeypatch).result
    assert result.error is None
    assert result.summary["total_output_tokens"] == 320
    assert result.telemetry is not None
    told = result.telemetry["cards"]
    assert [(card["index"], card["name"]) for card in told["cards"]] == [(0, "NVIDIA H100 80GB HBM3"), (1, "T4")]
    assert set(told["cards"][0]["series"]["power_w"]) == {312.5}
    assert told["energy_j"] > 0
    assert told["joules_per_output_token"] == pytest.approx(told["energy_j"] / 320, rel=1e-4)
    assert any("J an output token; a window under 30 s" in note for note in result.notes)


def test_a_run_that_reads_nothing_beside_the_load_reads_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(tmp_path, monkeypatch, scrape_interval_s=None).result
    assert result.error is None
    assert result.telemetry is None
