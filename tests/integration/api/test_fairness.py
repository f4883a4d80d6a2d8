"""What a job's targets are not alike in, and what a job would do, before anything runs and after."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from engines.launch.container_flags import MATCHED, compose_targets
from services.settings import Settings
from services.store.database import Database
from services.store.results import finish
from tests.fakes.history import take
from tests.fakes.results import make_result

VLLM = {
    "name": "v",
    "engine": "vllm",
    "model": "m",
    "reach": {"kind": "attached", "url": "http://127.0.0.1:9"},
}
TGI = VLLM | {"name": "t", "engine": "tgi", "reach": {"kind": "attached", "url": "http://127.0.0.1:10"}}
CONTAINER = {"kind": "container", "container": "enginebench-vllm", "url": "http://127.0.0.1:8000"}
JOB: dict[str, Any] = {"targets": [VLLM, TGI], "workloads": ["burst-100x128x128", "chat-1k-1k"]}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    listed = ("enginebench-vllm", *(target["reach"]["container"] for target in compose_targets(MATCHED)))
    more = {"docker_url": "unix:///nowhere.sock", "containers": listed, "allow_launch": True}
    return settings.model_copy(update=more)


def told(answer: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Subject -> target -> words."""
    return {one["subject"]: one["values"] for one in answer["asymmetries"]}


def test_a_job_says_at_once_what_its_targets_are_not_alike_in(client: TestClient) -> None:
    accepted = client.post("/v1/jobs", json=JOB)
    assert accepted.status_code == 202
    found = told(accepted.json())
    assert found["too many at once"] == {"v": "queued", "t": "refused above 128"}
    assert found["prefill budget"]["t"].startswith("not said: ")
    assert {*accepted.json()["asymmetries"][0]["workloads"]} == {*JOB["workloads"]}
    shown = client.get(f"/v1/jobs/{accepted.json()['id']}").json()
    assert shown["asymmetries"] == accepted.json()["asymmetries"]


def test_one_target_is_like_itself(client: TestClient) -> None:
    alone = client.post("/v1/jobs", json=JOB | {"targets": [VLLM]}).json()
    assert alone["asymmetries"] == []
    twins = client.post("/v1/jobs", json=JOB | {"targets": [VLLM, VLLM | {"name": "w"}]}).json()
    assert twins["asymmetries"] == []


def test_the_same_key_gives_the_same_asymmetries(client: TestClient) -> None:
    first, again = (client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "once"}).json() for _ in range(2))
    assert again == first


def test_flags_that_a_server_was_found_with_go_before_those_stated(client: TestClient, database: Database) -> None:
    stated = [VLLM | {"flags": ["--dtype=float16"]}, TGI | {"flags": ["--dtype", "float16"]}]
    accepted = client.post("/v1/jobs", json=JOB | {"targets": stated}).json()
    assert "dtype" not in told(accepted)
    result = make_result()
    result["environment"]["server"]["flags"] = ["--dtype", "bfloat16", "--max-num-seqs", "256"]
    finish(database, take(database), result, [])
    found = told(client.get(f"/v1/jobs/{accepted['id']}").json())
    assert found["dtype"] == {"v": "bfloat16", "t": "float16"}
    assert found["running sequences"]["v"] == "256"


def test_a_dry_run_says_what_would_run_and_queues_nothing(client: TestClient) -> None:
    boxed = VLLM | {"reach": CONTAINER, "resources": ["gpu:0"]}
    launched = {"kind": "process", "model_path": "folder", "args": ["--max-num-seqs", "64"]}
    job = {
        "targets": [boxed, TGI, VLLM | {"name": "p", "reach": launched}],
        "workloads": ["burst-100x128x128"],
        "repeats": 2,
        "order": "abba",
    }
    answer = client.post("/v1/jobs?dry_run=true", json=job, headers={"Idempotency-Key": "asked"})
    assert answer.status_code == 200
    found = answer.json()
    assert found["runs"] == 6
    assert [(step["position"], step["target"], step["repeat"]) for step in found["steps"]] == [
        (0, "v", 0), (1, "t", 0), (2, "p", 0), (3, "p", 1), (4, "t", 1), (5, "v", 1),
    ]  # fmt: skip
    in_container, there, process = found["steps"][:3]
    assert in_container["starts"] == "the container enginebench-vllm"
    assert "gpu:0" in in_container["resources"]
    assert in_container["words"].startswith("start the container enginebench-vllm, wait until it generates, 100 req")
    assert in_container["words"].endswith(", stop it")
    assert there["starts"] is None
    assert there["words"] == "100 requests of burst-100x128x128, repeat 0, at http://127.0.0.1:10"
    assert process["starts"].startswith("vllm serve folder")
    assert found["notes"] == [
        "before a container starts, whatever other listed container is on its card is stopped",
        "each run starts its engine anew; with starts, several bursts share a start",
    ]
    assert "too many at once" in told(found)
    assert client.get("/v1/jobs").json()["items"] == []
    assert client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "asked"}).status_code == 202


def test_a_dry_run_of_starts_says_where_the_engine_goes_up_and_down(client: TestClient) -> None:
    boxed = VLLM | {"reach": CONTAINER, "resources": ["gpu:0"]}
    job = {"targets": [boxed, TGI], "workloads": ["burst-100x128x128"], "starts": {"count": 2, "bursts": 3}}
    found = client.post("/v1/jobs?dry_run=true", json=job).json()
    assert [(step["target"], step["start"], step["burst"]) for step in found["steps"]] == [
        (name, start, burst) for name, start in (("v", 0), ("t", 0), ("t", 1), ("v", 1)) for burst in range(3)
    ]
    first, second, third = (step["words"] for step in found["steps"][:3])
    load = "100 requests of burst-100x128x128, burst"
    assert first == f"start the container enginebench-vllm, wait until it generates, {load} 0 of start 0"
    assert (second, third) == (f"{load} 1 of start 0", f"{load} 2 of start 0, stop it")
    assert [step["starts"] is not None for step in found["steps"]] == [True] + [False] * 8 + [True] + [False] * 2
    assert found["steps"][3]["words"] == f"{load} 0 of start 0, at http://127.0.0.1:10"
    assert found["notes"][1].startswith(
        "2 starts a target, each of 3 bursts a workload; a job of higher priority waits"
    )


def test_a_dry_run_says_which_runs_wait_for_lengths_that_come_later(client: TestClient) -> None:
    eight = {"kind": "fixed", "tokens": 8}
    prompts = {"kind": "synthetic", "input_tokens": eight}
    matched = {
        "name": "w", "requests": 2, "prompts": prompts, "output_tokens": eight, "lengths": "length-matched",
    }  # fmt: skip
    job = {"targets": [TGI, VLLM], "workloads": [matched], "repeats": 2, "order": "abba"}
    found = client.post("/v1/jobs?dry_run=true", json=job).json()
    assert [(step["target"], step["waits_for"]) for step in found["steps"]] == [
        ("t", None), ("v", 0), ("v", 3), ("t", None),
    ]  # fmt: skip
    assert found["notes"] == [
        "v asks for the lengths that t gives: where it stands before t, it is carried out after it"
    ]
    there = client.post("/v1/jobs?dry_run=true", json=job | {"order": "interleaved"}).json()
    assert there["notes"] == []


def test_a_job_of_starts_is_queued_with_each_run_s_start_and_burst(client: TestClient, database: Database) -> None:
    job = {"targets": [VLLM], "workloads": ["burst-100x128x128"], "starts": {"count": 1, "bursts": 2}}
    accepted = client.post("/v1/jobs", json=job).json()
    for name in ("s1", "s2"):
        result = make_result()
        result["environment"]["start"] = {"id": name, "burst": 0, "engine_started": False}
        finish(database, take(database), result, [])
    found = client.get(f"/v1/jobs/{accepted['id']}").json()
    assert [(run["start"], run["burst"], run["start_id"]) for run in found["runs"]] == [(0, 0, "s1"), (0, 1, "s2")]
    (cell,) = found["cells"]
    assert [(start["id"], start["engine_started"], start["valid"]) for start in cell["starts"]] == [
        ("s1", False, 1),
        ("s2", False, 1),
    ]
    over = cell["metrics"]["output_tokens_per_s"]
    assert (over["n"], over["bursts"], over["interval"]) == (2, 2, [over["median"]] * 2)
    (shown,) = client.get(f"/v1/runs?job={accepted['id']}&limit=1").json()["items"]
    assert (shown["start"], shown["burst"], shown["start_id"]) == (0, 1, "s2")
    ids = ",".join(run["id"] for run in found["runs"])
    sides = client.get(f"/v1/compare?runs={ids}&axis=engine").json()["sides"]
    assert [(side["starts"], len(side["runs"])) for side in sides] == [(2, 2)]
    again = client.post("/v1/jobs", json=found["spec"])
    assert again.status_code == 202, again.text


def test_a_dry_run_refuses_what_the_job_would_be_refused_for(client: TestClient) -> None:
    unknown = client.post("/v1/jobs?dry_run=true", json=JOB | {"targets": ["nobody"]})
    assert unknown.status_code == 422
    other = VLLM | {"reach": CONTAINER | {"container": "postgres"}}
    refused = client.post("/v1/jobs?dry_run=true", json=JOB | {"targets": [other]})
    assert [error["field"] for error in refused.json()["errors"]] == ["targets.0.reach.container"]


def test_the_compose_file_s_matched_engines_differ_in_what_cannot_be_told_alike(client: TestClient) -> None:
    targets = compose_targets(MATCHED, "A100-80GB")
    for target in targets:
        assert client.post("/v1/targets", json=target).status_code == 201
    mistral = [target["name"] for target in targets if "mistral" in target["name"]]
    found = client.post("/v1/jobs?dry_run=true", json={"targets": mistral, "workloads": ["burst-100x128x128"]}).json()
    assert all("gpu:0" in step["resources"] for step in found["steps"])
    assert {*told(found)} == {"end of sequence", "penalties", "too many at once"}
