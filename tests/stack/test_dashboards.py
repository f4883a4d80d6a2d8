"""Every panel of every dashboard gives data, and the jobs' own: real Prometheus, real Postgres, real service.

Only what draws is missing, for there is no Grafana here: its queries are filled in as it does, and asked of the same
two sources under the same configuration and the same role.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dashboards.source.panels import NEEDS_GPU
from engines.clock import sleep_s, utc_now
from engines.simulated.start import SimulatedServer, simulated_engine
from tests.fakes.grafana import PROMETHEUS, Moments, Query, dashboards, panel_queries, panels, variable_queries
from tests.fakes.postgres import PostgresServer, _binaries, libpq_url
from tests.fakes.service import Service, await_true, free_port, running_service
from tests.stack.answers import Answer, Facts, Sources
from tests.stack.conftest import running_prometheus
from tests.stack.expected import EXPECTED, VLLM_ALONE, WHILE_RUNNING
from tests.stack.names import names

ROOT = Path(__file__).parents[2] / "dashboards"
KEY, SCRAPE_KEY = "key-of-a-person", "key-of-prometheus"
INSTANCES = {"vllm": "simulated-vllm-mistral-7b", "tgi": "simulated-tgi-mistral-7b"}
#: Takes from two to five seconds a point, so that scrapes see it. A prompt is shorter than a block of the prefix cache.
WORKLOAD: dict[str, Any] = {
    "name": "chat",
    "requests": 16,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 12}},
    "output_tokens": {"kind": "fixed", "tokens": 48},
    "arrival": {"kind": "closed_loop", "concurrency": 2},
    "warmup_batches": 0,
}
SWEEP = {"axis": "concurrency", "values": [2, 6], "waves": 4}


@dataclass(frozen=True, slots=True)
class Stack:
    """All that runs, and how Grafana would reach it."""

    service: Service
    engines: Mapping[str, SimulatedServer]
    sources: Sources
    since: datetime


def test_every_panel_shows_the_jobs(tmp_path: Path, postgres: PostgresServer) -> None:
    database = postgres.create_database()
    with running_stack(database, tmp_path) as stack:
        facts, caught = two_jobs(stack)
        found = [(run["validity"], run["reason_codes"]) for run in facts.runs]
        assert {validity for validity, _ in found} == {"VALID"}, found
        check_dashboards(stack, facts, caught)
        check_alerts_are_quiet(stack.sources.prometheus)


def two_jobs(stack: Stack) -> tuple[Facts, dict[tuple[str, str], Answer]]:
    """One after the other, that the second has something to be held against; what was seen on the way."""
    targets = [target("v", "vllm", stack.engines["vllm"]), target("t", "tgi", stack.engines["tgi"])]
    job: dict[str, Any] = {"targets": targets, "workloads": [WORKLOAD], "sweep": SWEEP, "calibration": False}
    first = stack.service.submit(**job)
    second = stack.service.submit(**job, repeats=2)
    caught = watch(stack, second)
    return Facts(runs_of(stack.service, first, second), second, INSTANCES), caught


def check_dashboards(stack: Stack, facts: Facts, caught: Mapping[tuple[str, str], Answer]) -> None:
    """Every query of every panel with all that can be chosen, and with one thing chosen; tells all that is wrong."""
    # What was counted at the very end is scraped, and has left the ten seconds that rates look back.
    sleep_s(11.0)
    moments = Moments(stack.since, utc_now() + timedelta(seconds=1))
    faults: list[str] = []
    for name, board in dashboards().items():
        for chosen in choices(name, board, stack.sources, moments):
            if "run" in chosen:
                chosen["run"] = [facts.newest_of("tgi")["id"]]
                untold = ask_all(name, board, stack.sources, chosen, moments)
                assert not any(untold[place]["A"] for place in VLLM_ALONE)
                chosen["run"] = [facts.newest_of("vllm")["id"]]
            for place, found in ask_all(name, board, stack.sources, chosen, moments).items():
                answers = {"A": caught[place]} if place in WHILE_RUNNING else found
                empty = [ref for ref, answer in answers.items() if not answer]
                if place[1] in gpu_titles(board):
                    assert empty == list(answers), f"{place}: there is a GPU exporter, and no check for its panel"
                    continue
                try:
                    assert not empty, f"empty: {empty}"
                    (WHILE_RUNNING.get(place) or EXPECTED[place])(answers, facts)
                except AssertionError as error:
                    faults.append(f"{place}: {error}\n  {str(answers)[:1500]}")
    assert not faults, "\n".join(faults)


def ask_all(
    name: str, board: Mapping[str, Any], sources: Sources, chosen: Mapping[str, Sequence[str]], moments: Moments
) -> dict[tuple[str, str], dict[str, Answer]]:
    """Place -> ref -> answer."""
    answers: dict[tuple[str, str], dict[str, Answer]] = {}
    for query in panel_queries(name, board):
        answers.setdefault(query.place, {})[query.ref] = sources.ask(query, chosen, moments)
    return answers


def gpu_titles(board: Mapping[str, Any]) -> set[str]:
    """Panels that say they need a GPU."""
    return {panel["title"] for panel in panels(board) if panel["description"].endswith(NEEDS_GPU)}


def test_every_panel_has_a_check_and_every_check_a_panel() -> None:
    there = {
        query.place
        for name, board in dashboards().items()
        for query in panel_queries(name, board)
        if query.title not in gpu_titles(board)
    }
    assert there == set(EXPECTED) | set(WHILE_RUNNING)
    assert not set(EXPECTED) & set(WHILE_RUNNING)


def choices(
    name: str, board: Mapping[str, Any], sources: Sources, moments: Moments
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Every variable's values as its query gives them: all, where it may have several, and one of its own."""
    several = {variable["name"]: variable for variable in board["templating"].get("list", [])}
    every: dict[str, list[str]] = {}
    own: dict[str, list[str]] = {}
    for query in variable_queries(name, board):
        variable = query.title.removeprefix("variable ")
        values = variable_values(query, sources, moments)
        assert values, query
        given = several[variable]
        if given["multi"]:
            every[variable] = ["$__all"] if given.get("allValue") else values
            own[variable] = values
        else:
            every[variable] = own[variable] = values[:1]
    return every, own


def variable_values(query: Query, sources: Sources, moments: Moments) -> list[str]:
    if query.source == PROMETHEUS:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", query.text)
        assert match, query.text
        return sources.label_values(match[1], match[2], moments)
    rows = sources.ask(query, {}, moments)
    return [row.get("__value") or next(iter(row.values())) for row in rows]


def watch(stack: Stack, job_id: str) -> dict[tuple[str, str], Answer]:
    """Wait for the job; what the panels that are empty otherwise gave on the way."""
    caught: dict[tuple[str, str], Answer] = {}
    wanted = [
        query
        for name, board in dashboards().items()
        for query in panel_queries(name, board)
        if query.place in WHILE_RUNNING
    ]
    moment = Moments(utc_now(), utc_now())

    def ended() -> bool:
        for query in wanted:
            if query.place not in caught and (answer := stack.sources.ask(query, {}, moment)):
                caught[query.place] = answer
        status = stack.service.client.get(f"/v1/jobs/{job_id}").raise_for_status().json()["status"]
        return str(status) in ("completed", "failed", "cancelled")

    await_true(ended, 180.0, stack.service.log_tail)
    return caught


def runs_of(service: Service, *jobs: str) -> list[dict[str, Any]]:
    """Their runs, oldest first."""
    found: list[dict[str, Any]] = []
    for job in jobs:
        answer = service.client.get("/v1/runs", params={"job": job, "limit": 100}).raise_for_status()
        found += answer.json()["items"]
    return sorted(found, key=lambda run: str(run["ended_at"]))


def target(name: str, engine: str, server: SimulatedServer) -> dict[str, Any]:
    """One on the card its profile stands for."""
    reach = {"kind": "attached", "url": server.url}
    stated = {"hardware": "A100-80GB", "precision": "BF16"}
    return {"name": name, "engine": engine, "model": server.model, "reach": reach, **stated}


@contextmanager
def running_stack(database: str, folder: Path, program: str = "tests.fakes.calm") -> Iterator[Stack]:
    """Engines, service, Prometheus, and Grafana's role in Postgres."""
    since = utc_now()
    keys = {"ENGINEBENCH_API_KEYS": KEY, "ENGINEBENCH_METRICS_KEY": SCRAPE_KEY}
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        simulated_engine("vllm-mistral-7b") as vllm,
        simulated_engine("tgi-mistral-7b") as tgi,
        reader_of(database) as reader,
        running_service(database, folder / "state", settings=keys, headers=headers, program=program) as service,
        scraping(service, {"vllm": vllm, "tgi": tgi}, folder) as prometheus,
    ):
        yield Stack(service, {"vllm": vllm, "tgi": tgi}, Sources(prometheus, reader), since)


@contextmanager
def reader_of(database: str) -> Iterator[str]:
    """How Grafana reaches the database: the role that its own script makes, gone at the end."""
    connection = conninfo_to_dict(libpq_url(database))
    names = {"host": "PGHOST", "port": "PGPORT", "password": "PGPASSWORD"}
    told = {names[key]: str(value) for key, value in connection.items() if key in names}
    told |= {"POSTGRES_USER": str(connection["user"]), "POSTGRES_DB": str(connection["dbname"])}
    told |= {"GRAFANA_DB_PASSWORD": "it's a secret", "PATH": f"{_binaries()}:{os.environ['PATH']}"}
    script = subprocess.run([ROOT / "postgres" / "grafana-reader.sh"], env=told, capture_output=True, text=True)
    assert script.returncode == 0, script.stderr
    try:
        reader = make_conninfo(libpq_url(database), user="grafana_reader", password="it's a secret")
        with psycopg.connect(reader) as probe, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            probe.execute("CREATE TABLE scribble (k int)")
        yield reader
    finally:
        with psycopg.connect(libpq_url(database), autocommit=True) as admin:
            admin.execute("DROP OWNED BY grafana_reader")
            admin.execute("DROP ROLE grafana_reader")


@contextmanager
def scraping(service: Service, engines: Mapping[str, SimulatedServer], folder: Path) -> Iterator[httpx.Client]:
    """Prometheus with the committed configuration, but each second, and through a proxy that stands for Docker's names.

    So of the containers that there are no more than these: the other engines are down, and the exporter for the GPU.
    """
    config = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "prometheus" / "rules" / "*.yml")]
    (folder / "metrics_key").write_text(SCRAPE_KEY)
    port = free_port()
    listening = {"api:8700": service.port, "localhost:9090": port}
    listening |= {f"{INSTANCES[name]}:8000": server.port for name, server in engines.items()}
    with names(listening) as proxy:
        for job in config["scrape_configs"]:
            job["proxy_url"] = proxy
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(folder / "metrics_key")
        targets = sum(len(group["targets"]) for job in config["scrape_configs"] for group in job["static_configs"])
        up_and_down = [len(listening), targets - len(listening)]
        with running_prometheus(yaml.safe_dump(config), folder / "prometheus", port) as prometheus:
            # It is ready up to five seconds before it scrapes, and what has ended by then never rose.
            await_true(
                lambda: [prometheus.ask_one(f"count(up == {value})") for value in (1, 0)] == up_and_down,
                60.0,
                (folder / "prometheus" / "log").read_text,
            )
            yield prometheus.client


def check_alerts_are_quiet(prometheus: httpx.Client) -> None:
    """They were loaded and looked at, none could not be, and none is on or on its way."""
    groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    alerts = {rule["name"]: rule["state"] for rule in rules if rule["type"] == "alerting"}
    assert len(alerts) == len(
        yaml.safe_load((ROOT / "prometheus" / "rules" / "alerts.yml").read_text())["groups"][0]["rules"]
    )
    assert set(alerts.values()) == {"inactive"}, alerts
