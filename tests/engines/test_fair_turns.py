"""Real mlx-lm and Transformers servers and two simulated engines take turns on one card, over the whole service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.store.database import Database
from tests.acceptance.test_fair_turns import at_work, await_engine, statuses
from tests.acceptance.test_kill import LONG_LEASE_S, PATIENT_LEASE_S, ROOT, WORKLOAD, Site, site, unfinished
from tests.engines.conftest import ENVIRONMENTS, VARIABLES
from tests.fakes.card import Card, one_card
from tests.fakes.service import await_true

PATIENCE_S = 400.0
#: engine -> its program
REAL = {"mlx": "mlx_lm.server", "transformers": "transformers"}
SIMULATED = {"vllm": "vllm", "tgi": "text-generation-launcher"}


def place(card: Card) -> None:
    for engine, program in REAL.items():
        real = ENVIRONMENTS / engine / "bin" / program
        assert real.exists(), f"{engine} is not installed: run `make test-engines`, or tests/engines/install.py"
        card.place(program, f'"{real}" "$@"')
    for engine, program in SIMULATED.items():
        simulated = f'"{sys.executable}" -m engines.simulated --profile {engine}-mistral-7b --model "$2" --port "$6"'
        card.place(program, f'env --chdir="{ROOT}" {simulated} --speed 3')


def targets(card: Card, model: Path) -> list[dict[str, Any]]:
    """The four of them, all on gpu:0; a real one and a simulated one by turns."""

    def one(engine: str) -> dict[str, Any]:
        env = {**VARIABLES, **card.environment(engine)}
        reach = {"kind": "process", "model_path": str(model), "env": env, "ready_timeout_s": PATIENCE_S}
        return {"name": engine, "engine": engine, "model": str(model), "reach": reach, "resources": ["gpu:0"]}

    return [one(engine) for engine in ("mlx", "vllm", "transformers", "tgi")]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_four_engines_take_twelve_turns_and_a_killed_worker_s_engine_is_gone_before_the_next(
    database: Database, database_url: str, tmp_path: Path, models: dict[str, Path]
) -> None:
    work = [WORKLOAD | {"output_tokens": {"kind": "fixed", "tokens": 16}}]
    with one_card(tmp_path) as card:
        place(card)
        with site(database, database_url, tmp_path, "api", "w1", "w2", lease_s=PATIENT_LEASE_S) as running:
            running.submit(targets(card, models["qwen2"]), workloads=work, repeats=3, order="abba", calibration=False)
            for _ in range(2):
                await_true(lambda: at_work(running, card) is not None, PATIENCE_S, running.tell)
                before = len(card.seen)
                running.kill(at_work(running, card) or "w1")
                await_engine(running, card, before)
            await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
            assert statuses(running, running.jobs[0]) == ["completed"] * 12, running.tell()
    assert 12 < len(card.seen) <= 14, "what was killed is carried out again, with an engine of its own"
    assert {name for name, _ in card.seen} == {*REAL, *SIMULATED}


def is_measuring(running: Site, job: str) -> bool:
    runs = (
        httpx.get(f"http://127.0.0.1:{running.port}/v1/jobs/{job}", trust_env=False, timeout=30.0)
        .raise_for_status()
        .json()["runs"]
    )
    return any((run["progress"] or {}).get("stage") == "measuring" for run in runs if run["status"] == "running")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_cancel_in_mid_run_leaves_the_card_of_a_real_engine_to_the_next(
    database: Database, database_url: str, tmp_path: Path, models: dict[str, Path]
) -> None:
    with one_card(tmp_path) as card:
        place(card)
        real, simulated = targets(card, models["qwen2"])[:2]
        with site(database, database_url, tmp_path, "api", "w1", lease_s=LONG_LEASE_S) as running:
            running.submit([real], workloads=[WORKLOAD | {"requests": 5000}], repeats=2, calibration=False)
            cancelled = running.jobs[0]
            await_true(lambda: is_measuring(running, cancelled), PATIENCE_S, running.tell)
            assert len(card.alive()) == 1
            httpx.post(
                f"http://127.0.0.1:{running.port}/v1/jobs/{cancelled}/cancel", trust_env=False, timeout=30.0
            ).raise_for_status()
            running.submit([simulated], calibration=False)
            await_true(lambda: unfinished(database) == 0, PATIENCE_S, running.tell)
            assert statuses(running, cancelled) == ["cancelled"] * 2, running.tell()
            assert statuses(running, running.jobs[1]) == ["completed"], running.tell()
            assert card.alive() == set()
    assert [name for name, _ in card.seen] == ["mlx", "vllm"], "what was cancelled while it waited was never started"
