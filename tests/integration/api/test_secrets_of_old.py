"""What an older version took with a secret in it is shown without: targets, jobs, runs, comparisons."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

from engines.spec import TargetSpec
from services.store.database import Database
from services.store.jobs import enqueue
from services.store.targets import create_target, get_target
from tests.fakes.history import add_runs, take
from tests.fakes.jobs import planned, run_spec
from tests.fakes.results import make_result

KEY = "sk-0123456789"
OLD: dict[str, Any] = {
    "engine": "vllm",
    "model": "mistral",
    "reach": {
        "kind": "process",
        "model_path": "folder",
        "args": ["--dtype", "bfloat16", "--api-key", KEY],
        "env": {"HF_TOKEN": KEY, "OMP_NUM_THREADS": "2"},
    },
    "flags": [f"--api-key={KEY}", "--other-key $OTHER", "--max-num-seqs=128"],
    "headers": {"Authorization": f"Bearer {KEY}", "X-Team": "inference"},
}


def shown(client: TestClient, path: str, **params: Any) -> Any:
    answer = client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    assert KEY not in answer.text
    return answer.json()


def assert_without(target: dict[str, Any]) -> None:
    assert target["reach"]["args"] == ["--dtype", "bfloat16", "--api-key", "[redacted]"]
    assert target["reach"]["env"] == {"HF_TOKEN": "[redacted]", "OMP_NUM_THREADS": "2"}
    assert target["flags"] == ["--api-key=[redacted]", "--other-key $OTHER", "--max-num-seqs=128"]
    assert target["headers"] == {"Authorization": "[redacted]", "X-Team": "inference"}


def test_a_stored_target_is_shown_without_and_kept_as_it_was(client: TestClient, database: Database) -> None:
    create_target(database, name="old", spec=OLD)
    assert_without(shown(client, "/v1/targets/old"))
    assert_without(shown(client, "/v1/targets")["items"][0])
    assert get_target(database, "old").spec == OLD


def test_a_job_and_its_run_are_shown_without(client: TestClient, database: Database) -> None:
    spec = run_spec().model_copy(update={"target": TargetSpec.model_validate(OLD)})
    arm = {"like": "old", "name": "arm", "args": ["--api-key", KEY]}
    asked = {"name": "old", "targets": ["old", {**OLD, "name": "inline"}, arm]}
    job, _ = enqueue(database, runs=(planned(spec=spec),), spec=asked, name="old", labels={}, priority=0)
    claimed = take(database)
    found = shown(client, f"/v1/jobs/{job.id}")
    assert found["spec"]["targets"][0] == "old"
    assert_without(found["spec"]["targets"][1])
    assert found["spec"]["targets"][2]["args"] == ["--api-key", "[redacted]"]
    assert claimed.run_spec.target == spec.target, "it is carried out as it was asked for"
    assert_without(shown(client, f"/v1/runs/{claimed.run_id}")["spec"]["target"])


def test_what_a_container_ran_with_is_told_as_it_was_kept(client: TestClient, database: Database) -> None:
    """Its words without a secret, then its settings: these are no further secrets of the last word's."""
    result = json.loads(json.dumps(make_result()))
    result["spec"]["target"]["reach"] = {"kind": "container", "container": "vllm", "url": "http://vllm:8000"}
    flags = ["--dtype", "bfloat16", "--api-key", "[redacted]", "PREFIX_CACHING=0"]
    result["environment"]["server"] = {"flags": flags}
    (run_id,) = add_runs(database, result)
    assert shown(client, f"/v1/runs/{run_id}")["result"]["environment"]["server"]["flags"] == flags


def test_a_result_and_a_comparison_are_shown_without(client: TestClient, database: Database) -> None:
    results = [json.loads(json.dumps(make_result(repeat=n))) for n in range(2)]
    for result, most in zip(results, ("128", "64"), strict=True):
        flags = [f"--api-key={KEY}", "--other-key $OTHER", f"--max-num-seqs={most}"]
        result["spec"]["target"] |= {"flags": flags, "headers": OLD["headers"], "reach": OLD["reach"]}
        result["environment"]["server"] = {"flags": ["--api-key", KEY]}
    one, other = add_runs(database, *results)
    run = shown(client, f"/v1/runs/{one}")
    assert_without(run["result"]["spec"]["target"])
    assert run["result"]["environment"]["server"]["flags"] == ["--api-key", "[redacted]"]
    sides = json.dumps(shown(client, "/v1/compare", runs=f"{one},{other}", axis="flags"))
    assert "--api-key=[redacted] --other-key $OTHER --max-num-seqs=64" in sides
