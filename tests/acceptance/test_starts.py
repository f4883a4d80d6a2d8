"""Starts are blocks: one engine up for all bursts of a start, there and back, none beside it and none left after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from services.store.database import Database
from tests.acceptance import test_container_turns as containers
from tests.acceptance.test_fair_turns import NAMES, targets
from tests.acceptance.test_kill import LONG_LEASE_S, PATIENCE_S, PATIENT_LEASE_S, WORKLOAD, Site, site, unfinished
from tests.fakes.card import Card
from tests.fakes.service import await_true

A, B = NAMES[1], NAMES[3]
BURSTS = {"count": 2, "bursts": 2}

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def two(card: Card) -> list[dict[str, Any]]:
    """Both on gpu:0."""
    return [target for target in targets(card) if target["name"] in (A, B)]


def job_of(running: Site) -> dict[str, Any]:
    answer = httpx.get(f"http://127.0.0.1:{running.port}/v1/jobs/{running.jobs[0]}", trust_env=False, timeout=30.0)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def runs_of(job: dict[str, Any]) -> list[tuple[str, int, int, str]]:
    return [(run["target"], run["start"], run["burst"], run["status"]) for run in job["runs"]]


def measuring(running: Site, position: int) -> bool:
    run = job_of(running)["runs"][position]
    return run["status"] == "running" and (run["progress"] or {}).get("stage") == "measuring"


def test_two_engines_two_starts_two_bursts_are_four_starts_there_and_back(
    database: Database, database_url: str, tmp_path: Path, card: Card
) -> None:
    with site(database, database_url, tmp_path, "api", "w1", "w2", lease_s=LONG_LEASE_S) as running:
        running.submit(two(card), starts=BURSTS, calibration=False)
        await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
        assert card.alive() == set()
        job = job_of(running)
    assert [name for name, _ in card.seen] == [A, B, B, A]
    assert runs_of(job) == [
        (name, start, burst, "completed") for name, start in ((A, 0), (B, 0), (B, 1), (A, 1)) for burst in (0, 1)
    ], running.tell()
    ids = [run["start_id"] for run in job["runs"]]
    assert ids[::2] == ids[1::2]
    assert len({*ids}) == 4
    for cell in job["cells"]:
        own = [run["id"] for run in job["runs"] if run["target"] == cell["target"]]
        assert [start["runs"] for start in cell["starts"]] == [own[:2], own[2:]]
        if cell["basis"] == "not valid" or cell["rankable"]:
            over = cell["metrics"]["output_tokens_per_s"]
            assert (over["n"], over["bursts"]) == (2, 4)
            assert over["interval"][0] <= over["median"] <= over["interval"][1]


def test_a_worker_killed_in_mid_start_goes_on_in_a_fresh_one_and_a_cancel_leaves_none(
    database: Database, database_url: str, tmp_path: Path, card: Card
) -> None:
    # The first bursts take as long as the test needs to see them.
    work = [WORKLOAD | {"requests": 30, "arrival": {"kind": "closed_loop", "concurrency": 4}}]
    with site(database, database_url, tmp_path, "api", "w1", lease_s=PATIENT_LEASE_S) as running:
        running.submit(two(card), workloads=work, starts=BURSTS, calibration=False)
        await_true(lambda: measuring(running, 1), PATIENCE_S, running.tell)
        running.kill("w1")
        await_true(lambda: measuring(running, 2), PATIENCE_S, running.tell)
        first, second = job_of(running)["runs"][:2]
        assert (first["status"], second["status"]) == ("completed", "completed")
        assert first["start_id"] != second["start_id"], "of one start as planned, and of two as it came"
        assert first["start"] == second["start"] == 0
        # Between two bursts: one is over, the other about to begin.
        cancel = f"http://127.0.0.1:{running.port}/v1/jobs/{running.jobs[0]}/cancel"
        await_true(lambda: job_of(running)["runs"][2]["status"] == "completed", PATIENCE_S, running.tell, 0.02)
        httpx.post(cancel, trust_env=False, timeout=30.0).raise_for_status()
        await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
        assert card.alive() == set()
        states = [run["status"] for run in job_of(running)["runs"]]
        assert states == ["completed"] * 3 + ["cancelled"] * 5
    assert [name for name, _ in card.seen] == [A, A, B]


def test_a_container_is_started_once_for_all_bursts_and_one_that_fails_fails_its_own(
    database_url: str, tmp_path: Path
) -> None:
    with containers.stack(database_url, tmp_path) as (service, docker, boxed):
        good, bad = boxed[1], boxed[3]
        docker.containers[bad["name"]].dies_with = 1
        job = service.submit(targets=[good, bad], workloads=[WORKLOAD], starts=BURSTS, calibration=False)
        ended = service.await_job(job)
        order = ((good, 0), (bad, 0), (bad, 1), (good, 1))
        assert runs_of(ended) == [
            (one["name"], start, burst, "completed" if one is good else "failed")
            for one, start in order
            for burst in (0, 1)
        ]
        assert containers.started(docker) == [one["name"] for one, _ in order]
        assert all("ended with exit code 1" in run["error"] for run in ended["runs"][2:6])
