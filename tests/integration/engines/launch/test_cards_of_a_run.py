"""A run on a launched engine carries what the cards it occupies drew; the driver's library is a stand-in."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bench_runner import runner
from bench_runner.load.contract import RunControl
from bench_runner.measure.result import RunResult
from bench_runner.plan.spec import RunSpec
from engines.target import Site
from tests.fakes.nvml import DRIVER_NOT_LOADED, Driver, installed, no_driver

BOTH = ("gpu:0", "gpu:1")


def run(folder: Path, *resources: str, scrape_interval_s: float | None = 0.05) -> RunResult:
    spec = {
        "target": {
            "engine": "vllm",
            "model": "tiny",
            "reach": {"kind": "process", "model_path": "folder/tiny"},
            "resources": resources,
            "gpus": max(1, len(resources)),
        },
        "workload": {
            "requests": 40,
            "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 16}},
            "output_tokens": {"kind": "fixed", "tokens": 8},
            "arrival": {"kind": "constant", "rate_per_s": 25},
            "warmup_batches": 0,
        },
        "calibration": False,
        "scrape_interval_s": scrape_interval_s,
    }
    result = runner.run(RunSpec.model_validate(spec), control=RunControl(), site=Site(folder / "state")).result
    assert result.error is None
    assert result.summary["total_output_tokens"] == 320
    return result


def test_a_run_tells_what_its_cards_drew_and_what_a_token_cost(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path):
        result = run(tmp_path, *BOTH)
    assert result.telemetry is not None
    told = result.telemetry["cards"]
    assert [(card["index"], card["name"]) for card in told["cards"]] == [(0, "NVIDIA H100 80GB HBM3"), (1, "T4")]
    assert set(told["cards"][0]["series"]["power_w"]) == {312.5}
    assert told["energy_j"] > 0
    per_token, per_joule = (result.summary[name] for name in ("joules_per_output_token", "output_tokens_per_s_per_w"))
    assert per_token == pytest.approx(told["energy_j"] / result.summary["window"]["arrived_output_tokens"], rel=1e-4)
    assert per_joule == pytest.approx(1 / per_token)
    assert any("J; a window under 30 s" in note for note in result.notes)
    cards = result.environment["cards"]
    assert (cards["driver"], cards["cuda"], cards["count"], cards["of_target"]) == ("580.95.05", "12.8", 2, True)
    assert [(card["power_limit_w"], card["persistence"]) for card in cards["cards"]] == [(700.0, True)] * 2


def test_a_card_that_falls_off_the_bus_takes_its_energy_along_and_not_the_run(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path) as driver:
        driver.lost_after = 30
        result = run(tmp_path, *BOTH)
    assert driver.lost == {1}
    assert result.summary["joules_per_output_token"] is result.summary["output_tokens_per_s_per_w"] is None
    assert "card 1 did not answer to the end (GPU is lost)" in result.notes
    assert result.telemetry is not None
    assert result.telemetry["cards"]["energy_j"] is None


def test_cards_that_the_target_does_not_claim_give_it_no_energy(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path):
        result = run(tmp_path)
    assert result.summary["joules_per_output_token"] is None
    assert "cards" not in (result.telemetry or {})
    assert any("does not say which of this host's cards it occupies" in note for note in result.notes)
    assert result.environment["cards"]["of_target"] is False


def test_without_readings_beside_the_load_a_card_is_read_at_both_ends(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path) as driver:
        result = run(tmp_path, "gpu:0", scrape_interval_s=None)
    # For the environment twice, and around the load twice.
    assert driver.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 4
    assert (result.telemetry or {}).get("cards", {}).get("energy_j") is None
    assert result.summary["joules_per_output_token"] is None


def test_a_card_that_is_not_there_is_named_once_and_is_not_asked_for_again(tmp_path: Path) -> None:
    with installed(Driver(), tmp_path) as driver:
        result = run(tmp_path, "gpu:7")
    assert driver.calls.count("nvmlInitWithFlags") == 1
    assert [note for note in result.notes if "card" in note] == [
        "card 7 did not answer to the end (there is no such card)"
    ]
    assert result.environment["cards"] is None


def test_a_driver_that_does_not_answer_is_asked_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with installed(Driver(answers={"nvmlInitWithFlags": DRIVER_NOT_LOADED}), tmp_path) as driver:
        with caplog.at_level(logging.DEBUG, logger="engines.cards"):
            result = run(tmp_path, *BOTH)
        assert driver.calls == ["nvmlInitWithFlags"]
    assert [(one.levelname, one.message) for one in caplog.records] == [("DEBUG", "no card is read")]
    assert result.environment["cards"] is None


def test_a_host_without_cards_has_none_of_it(tmp_path: Path) -> None:
    with no_driver():
        result = run(tmp_path, *BOTH)
    assert result.environment["cards"] is None
    assert result.summary["joules_per_output_token"] is result.summary["output_tokens_per_s_per_w"] is None
    assert "cards" not in (result.telemetry or {})
    assert not any("card" in note for note in result.notes)
    assert not any("card" in reason.message for reason in result.validity.reasons)
