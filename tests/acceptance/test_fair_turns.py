"""Four engines that the worker starts, one card: never two alive at once, none left, whoever is killed or stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from engines.clock import sleep_s
from services.store.database import Database
from tests.acceptance.test_kill import (
    LONG_LEASE_S,
    PATIENCE_S,
    PATIENT_LEASE_S,
    WORKLOAD,
    Site,
    processes_of,
    site,
    unfinished,
)
from tests.fakes.card import Card
from tests.fakes.service import await_true

NAMES = ("vllm-qwen2.5-7b", "vllm-mistral-7b", "tgi-qwen2.5-7b", "tgi-mistral-7b")

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def targets(card: Card) -> list[dict[str, Any]]:
    """The four of them, all on gpu:0."""

    def one(name: str) -> dict[str, Any]:
        engine = name.partition("-")[0]
        reach = {"kind": "process", "model_path": name, "env": card.environment(name)}
        return {"name": name, "engine": engine, "model": name, "reach": reach, "resources": ["gpu:0"]}

    return [one(name) for name in NAMES]


def statuses(running: Site, job: str) -> list[str]:
    """Of the job's runs, in their order."""
    answer = httpx.get(f"http://127.0.0.1:{running.port}/v1/jobs/{job}", trust_env=False, timeout=30.0)
    return [run["status"] for run in answer.raise_for_status().json()["runs"]]


def test_twelve_runs_take_turns_there_and_back(
    database: Database, database_url: str, tmp_path: Path, card: Card
) -> None:
    with site(database, database_url, tmp_path, "api", "w1", "w2", lease_s=LONG_LEASE_S) as running:
        running.submit(targets(card), repeats=3, order="abba", calibration=False)
        await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
        assert statuses(running, running.jobs[0]) == ["completed"] * 12, running.tell()
        assert card.alive() == set()
    # Two workers, one card: whoever holds it starts the next of the order.
    assert [name for name, _ in card.seen] == [*NAMES, *reversed(NAMES), *NAMES]


def test_workers_that_are_killed_in_mid_run_leave_no_engine_beside_another(
    database: Database, database_url: str, tmp_path: Path, card: Card
) -> None:
    with site(database, database_url, tmp_path, "api", "w1", "w2", lease_s=PATIENT_LEASE_S) as running:
        work = [WORKLOAD | {"requests": 30}]
        running.submit(targets(card), workloads=work, repeats=2, order="abba", calibration=False)
        for _ in range(3):
            await_true(lambda: at_work(running, card) is not None, PATIENCE_S, running.tell)
            before = len(card.seen)
            running.kill(at_work(running, card) or "w1")
            await_engine(running, card, before)
        await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
        assert statuses(running, running.jobs[0]) == ["completed"] * 8, running.tell()
    assert 8 < len(card.seen) <= 11, "what was killed is carried out again, with an engine of its own"


def at_work(running: Site, card: Card) -> str | None:
    """The worker that has an engine at work; `None`: neither."""
    return next((name for name in ("w1", "w2") if card.alive() and running.held_by(name)), None)


def await_engine(running: Site, card: Card, before: int) -> None:
    """Until one more was seen."""
    await_true(lambda: len(card.seen) > before, PATIENCE_S, running.tell)


def test_an_engine_whose_keeper_died_with_the_worker_is_ended_before_the_next_turn(
    database: Database, database_url: str, tmp_path: Path, card: Card
) -> None:
    with site(database, database_url, tmp_path, "api", "w1", lease_s=PATIENT_LEASE_S) as running:
        running.submit(targets(card)[:2], workloads=[WORKLOAD | {"requests": 30}], calibration=False)
        await_true(lambda: at_work(running, card) is not None, PATIENCE_S, running.tell)
        keeper = next(int(found.split(":")[0]) for found in processes_of(tmp_path) if "launch/keeper.py" in found)
        os.kill(keeper, signal.SIGSTOP)
        running.kill("w1")
        os.kill(keeper, signal.SIGKILL)
        await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
        assert statuses(running, running.jobs[0]) == ["completed"] * 2, running.tell()


def test_a_cancelled_job_leaves_the_card_to_the_next(
    database: Database, database_url: str, tmp_path: Path, card: Card
) -> None:
    with site(database, database_url, tmp_path, "api", "w1", lease_s=LONG_LEASE_S) as running:
        running.submit(targets(card), workloads=[WORKLOAD | {"requests": 5000}], repeats=3, calibration=False)
        await_true(lambda: len(card.alive()) == 1, PATIENCE_S, running.tell)
        sleep_s(0.5)
        cancel = f"http://127.0.0.1:{running.port}/v1/jobs/{running.jobs[0]}/cancel"
        httpx.post(cancel, trust_env=False, timeout=30.0).raise_for_status()
        running.submit(targets(card)[::-1], calibration=False)
        await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
        assert set(statuses(running, running.jobs[0])) == {"cancelled"}
        assert statuses(running, running.jobs[1]) == ["completed"] * 4, running.tell()
        assert card.alive() == set()
    assert [name for name, _ in card.seen] == [NAMES[0], *reversed(NAMES)]
