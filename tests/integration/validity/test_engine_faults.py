"""What an engine may do wrong, each with the reason it is given; and its twin without the fault, which is VALID."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench_runner import runner
from bench_runner.load.contract import RunControl
from engines.clock import sleep_s
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.fakes.nvml import Driver, installed
from tests.integration.validity.driving import (
    CLOSED,
    assert_clean,
    drive,
    notes,
    reasons,
    severities,
    wait_for_end,
    wait_for_finished,
    wait_for_load,
)

SEEDS = count(1)
STEADY: dict[str, Any] = {"kind": "constant", "rate_per_s": 40}


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedServer]:
    with simulated_engine("vllm-mistral-7b", speed=4) as running:
        yield running


@pytest.fixture(autouse=True)
def no_faults(server: SimulatedServer) -> Iterator[None]:
    yield
    server.set_faults()


#: name -> fault, load, the reason it must be given, words of that reason
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "5xx": ({"kind": "status", "status": 503, "every": 10}, {}, "failures", "4 rejected"),
    "stalled stream": (
        {"kind": "stall", "token": 12, "seconds": 60, "every": 10},
        {"limits": {"request_timeout_s": 4}},
        "failures",
        "4 timeout",
    ),
    "cut stream": ({"kind": "cut", "token": 12, "every": 10}, {}, "failures", "4 broken_stream"),
    # Where the wire tells each token, what is missing of the count is missing of the answer.
    "usage above the truth": (
        {"kind": "wrong_usage", "tokens": 3, "every": 5},
        {},
        "token_counts_disagree",
        "8 of 40 responses carried fewer tokens than the engine counted in them (the first: 24 arrived, 27 counted): "
        "its metrics counted the 960 that arrived, so its answers' count is wrong",
    ),
    "usage below the truth": (
        {"kind": "wrong_usage", "tokens": -3, "every": 5},
        {},
        "token_counts_disagree",
        "8 of 40 responses carried more tokens than the engine counted in them (the first: 24 arrived, 21 counted)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_given_its_reason_and_its_twin_none(server: SimulatedServer, name: str) -> None:
    fault, load, code, words = FAULTS[name]
    server.set_faults(fault)
    outcome = drive(server, seed=next(SEEDS), **load)
    assert outcome.result.validity.state != "VALID"
    assert words in reasons(outcome).get(code, ""), reasons(outcome)
    assert "foreign_traffic" not in reasons(outcome)
    server.set_faults()
    assert_clean(lambda: drive(server, seed=next(SEEDS), **load))


def test_several_tokens_in_a_chunk_are_told_and_counted(server: SimulatedServer) -> None:
    server.set_faults({"kind": "coalesce", "tokens": 4})
    outcome = assert_clean(lambda: drive(server, seed=next(SEEDS)))
    assert (
        "40 of 40 responses came in fewer events than tokens (240 events, 960 tokens)"
        in (notes(outcome)["tokens_per_event"])
    )
    assert outcome.result.summary["total_output_tokens"] == 960
    assert outcome.result.summary["itl_s"] is None
    server.set_faults()
    twin = assert_clean(lambda: drive(server, seed=next(SEEDS)))
    assert "tokens_per_event" not in notes(twin)
    assert twin.result.summary["itl_s"]["n"] == 40 * 23


def test_a_warm_prefix_cache_is_noticed(server: SimulatedServer) -> None:
    first = assert_clean(lambda: drive(server, seed=next(SEEDS)))
    again = drive(server, seed=first.result.spec["seed"])
    assert again.result.validity.state == "INVALID"
    # Of 48 tokens two whole blocks of 16: the last of a prompt is always computed.
    assert "served 1280 of 1920 prompt tokens" in reasons(again)["prefix_cache"]
    assert_clean(lambda: drive(server, seed=next(SEEDS)))


def ask(server: SimulatedServer, tokens: int) -> None:
    """Somebody else's request."""
    other = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = {"model": server.model, "prompt": f"a stranger {next(SEEDS)}", "max_tokens": tokens, "ignore_eos": True}
    other.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    assert other.getresponse().read()
    other.close()


@pytest.mark.parametrize("tokens", [1, 24, 240], ids=["a short one", "one of a hundred", "much"])
def test_foreign_traffic_of_one_percent_is_noticed(server: SimulatedServer, tokens: int) -> None:
    def stranger(control: RunControl) -> None:
        wait_for_load(control)
        ask(server, tokens)

    outcome = drive(server, seed=next(SEEDS), requests=100, meanwhile=stranger)
    assert "the engine counted 101 finished requests over the window, our requests account for 100" in "".join(
        reason.message for reason in outcome.result.validity.reasons if reason.code == "foreign_traffic"
    )
    # Of the run as a whole a busy machine may say worse.
    assert severities(outcome)["foreign_traffic"] == "inconclusive"
    assert outcome.result.validity.state != "VALID"
    assert_clean(lambda: drive(server, seed=next(SEEDS), requests=100))


def test_strangers_who_stay_are_seen_in_the_engines_gauges(server: SimulatedServer) -> None:
    def crowd(control: RunControl) -> None:
        wait_for_load(control)
        connections = []
        for _ in range(8):
            other = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            body = {"model": server.model, "prompt": f"a stranger {next(SEEDS)}", "max_tokens": 30_000}
            body |= {"ignore_eos": True, "stream": True}
            other.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
            connections.append(other)
        wait_for_end(control)
        for other in connections:
            other.close()

    load: dict[str, Any] = {"requests": 200}
    outcome = drive(server, seed=next(SEEDS), meanwhile=crowd, **load)
    found = reasons(outcome)
    assert {"foreign_traffic", "littles_law"} <= set(found), found
    assert "requests were running or waiting, ours were" in found["littles_law"]
    twin = assert_clean(lambda: drive(server, seed=next(SEEDS), **load))
    assert "littles_law" not in notes(twin)


def test_an_engine_whose_metrics_are_not_to_be_read_beside_the_load_still_has_its_counts_reconciled(
    server: SimulatedServer,
) -> None:
    def stranger(control: RunControl) -> None:
        wait_for_load(control)
        ask(server, 240)

    outcome = drive(server, seed=next(SEEDS), requests=100, meanwhile=stranger, scrape_interval_s=None)
    assert "foreign_traffic" in reasons(outcome)
    alone = assert_clean(lambda: drive(server, seed=next(SEEDS), scrape_interval_s=None))
    read = assert_clean(lambda: drive(server, seed=next(SEEDS), requests=100))
    assert alone.result.telemetry is not None
    assert set(alone.result.telemetry) == {"counters", "server"}
    assert "the engine's own metrics were not read beside the load: scrape_interval_s is null" in alone.result.notes
    assert read.result.telemetry is not None
    assert alone.result.spec_digest != read.result.spec_digest


def test_an_engine_that_is_started_anew_is_noticed() -> None:
    def restart(control: RunControl) -> None:
        wait_for_load(control)
        sleep_s(0.6)
        os.kill(first.pid, signal.SIGKILL)
        with simulated_engine("vllm-mistral-7b", speed=4, port=first.port):
            wait_for_end(control)

    load: dict[str, Any] = {"requests": 160, "arrival": STEADY}
    with simulated_engine("vllm-mistral-7b", speed=4) as first:
        assert_clean(lambda: drive(first, seed=next(SEEDS), **load))
        outcome = drive(first, seed=next(SEEDS), meanwhile=restart, **load)
    found = reasons(outcome)
    assert outcome.result.validity.state == "INVALID"
    assert {"engine_restarted", "failures"} <= set(found), found
    assert "connect" in found["failures"]
    assert outcome.result.summary["successes"] > 0


def test_an_engine_that_falls_behind_is_not_stationary() -> None:
    """Twice the load it can serve: latencies grow all the time, and more are under way than rate × latency says."""
    load: dict[str, Any] = {"requests": 200, "output_tokens": {"kind": "fixed", "tokens": 12}}
    with simulated_engine("vllm-mistral-7b", speed=4, max_running=2) as server:
        overload = {"kind": "poisson", "rate_per_s": 110}
        found = reasons(drive(server, seed=next(SEEDS), **load, arrival=overload))
        assert {"not_stationary"} <= set(found), found
        easy: dict[str, Any] = {"requests": 60, "arrival": {"kind": "poisson", "rate_per_s": 20}}
        assert_clean(lambda: drive(server, seed=next(SEEDS), **(load | easy)))


def test_a_card_that_is_too_hot_is_noticed(
    server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's library is a stand-in, whose counter of a hot card moves by half a second with each reading."""
    with installed(Driver(), tmp_path) as driver:
        # A simulated engine has no card, whatever this host has.
        assert_clean(lambda: drive(server, seed=next(SEEDS)))
        assert driver.calls == []
        monkeypatch.setattr(runner, "_cards", lambda *_: (0,))
        assert_clean(lambda: drive(server, seed=next(SEEDS)))
        driver.steps = {75: 500_000_000}
        hot = drive(server, seed=next(SEEDS))
        assert re.search(r"^card 0 of the engine's host was slowed down for \d+\.[05]0 s", reasons(hot)["throttled"])
        # Of two cards, nobody says which is the target's.
        monkeypatch.setattr(runner, "_cards", lambda *_: ())
        assert "throttled" not in reasons(drive(server, seed=next(SEEDS)))


def test_an_engine_that_slows_down_is_not_stationary(server: SimulatedServer) -> None:
    """From the middle of the run on every stream stops for a while: a card that throttles, say."""

    def slow_down(control: RunControl) -> None:
        wait_for_finished(control, 100)
        server.set_faults({"kind": "stall", "token": 3, "seconds": 0.1})

    load: dict[str, Any] = {"requests": 240, "arrival": STEADY}
    found = reasons(drive(server, seed=next(SEEDS), meanwhile=slow_down, **load))
    assert "not_stationary" in found, found
    server.set_faults()
    assert_clean(lambda: drive(server, seed=next(SEEDS), **load))


def test_a_run_too_short_to_be_steady_says_so(server: SimulatedServer) -> None:
    slots: dict[str, Any] = {"arrival": CLOSED | {"concurrency": 8}}
    found = reasons(drive(server, seed=next(SEEDS), requests=12, **slots))
    assert found.get("too_short", "").startswith("12 requests fill 8 slots 1.5 times")
    assert_clean(lambda: drive(server, seed=next(SEEDS), requests=64, **slots))
    quick = drive(server, seed=next(SEEDS), requests=6, arrival={"kind": "constant", "rate_per_s": 400})
    assert "shorter than 2 of its requests" in reasons(quick).get("too_short", "")
    assert_clean(lambda: drive(server, seed=next(SEEDS), requests=80, arrival=STEADY))
