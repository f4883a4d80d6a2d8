"""Every kind of bad input: the right status, the field, the mend, and never a 500."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fakes.service import running_service

TARGET: dict[str, Any] = {
    "name": "a",
    "engine": "vllm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "reach": {"kind": "attached", "url": "http://127.0.0.1:9"},
}
WORKLOAD: dict[str, Any] = {
    "name": "own",
    "requests": 10,
    "prompts": {"kind": "synthetic", "input_tokens": {"kind": "fixed", "tokens": 128}},
    "output_tokens": {"kind": "fixed", "tokens": 128},
}
JSON = {"content-type": "application/json"}
JOB: dict[str, Any] = {"targets": [TARGET], "workloads": [WORKLOAD]}


def refused(answer: Any, status: int = 422) -> list[str]:
    """The fields that are named, each with a mend."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["type"].startswith("urn:enginebench:problem:")) == (status, True)
    assert body["detail"]
    assert body["errors"]
    assert all(error["problem"] and error["mend"] for error in body["errors"])
    return [error["field"] for error in body["errors"]]


def set_at(body: Any, path: str, value: Any) -> Any:
    """The body with one value changed, added or (with `...`) removed."""
    head, _, rest = path.partition(".")
    key: Any = int(head) if head.isdecimal() else head
    if isinstance(body, list):
        return [set_at(item, rest, value) if k == key and rest else item for k, item in enumerate(body)]
    if rest:
        return {**body, key: set_at(body[key], rest, value)}
    return {k: v for k, v in body.items() if k != key} if value is ... else {**body, key: value}


BAD_JOBS: list[tuple[str, Any, str]] = [
    # unknown things
    ("targets.0.engine", "vlm", "targets.0.engine"),
    ("targets.0.endpoint", "native", "targets.0.endpoint"),
    ("targets.0.endpoint", "grpc", "targets.0.endpoint"),
    ("targets.0.colour", "red", "targets.0.colour"),
    ("targets", ["nobody"], "targets.0"),
    ("targets", [{"like": "nobody", "name": "x"}], "targets.0.like"),
    ("workloads", ["burst-100x128x129"], "workloads.0"),
    ("workloads.0.request", 5, "workloads.0.request"),
    ("workloads.0.arrival", {"kind": "poison"}, "workloads.0.arrival"),
    ("workloads.0.output_tokens", {"kind": "fixed", "words": 5}, "workloads.0.output_tokens.tokens"),
    ("order", "random", "order"),
    ("repeat", 3, "repeat"),
    # counts
    ("repeats", 0, "repeats"),
    ("repeats", -1, "repeats"),
    ("repeats", "many", "repeats"),
    ("repeats", 1.5, "repeats"),
    ("repeats", 10**30, "repeats"),
    ("repeats", None, "repeats"),
    # a number is written as one
    ("repeats", True, "repeats"),
    ("repeats", "3", "repeats"),
    ("priority", "1", "priority"),
    ("seed", False, "seed"),
    ("scrape_interval_s", "1", "scrape_interval_s"),
    ("limits", {"run_timeout_s": "60"}, "limits.run_timeout_s"),
    ("slo", {"ttft_s": True}, "slo.ttft_s"),
    ("workloads.0.requests", "10", "workloads.0.requests"),
    ("workloads.0.temperature", "0", "workloads.0.temperature"),
    ("workloads.0.warmup_batches", True, "workloads.0.warmup_batches"),
    ("workloads.0.output_tokens.tokens", "128", "workloads.0.output_tokens.tokens"),
    ("workloads.0.output_tokens", {"kind": "list", "tokens": [1, "2"]}, "workloads.0.output_tokens.tokens.1"),
    ("workloads.0.arrival", {"kind": "closed_loop", "concurrency": "4"}, "workloads.0.arrival.concurrency"),
    ("workloads.0.duration_s", "3", "workloads.0.duration_s"),
    ("sweep", {"axis": "concurrency", "values": [1, "4"]}, "sweep.values.1"),
    ("sweep", {"axis": "rate_per_s", "low": 1, "high": True, "steps": 4}, "sweep.high"),
    ("targets.0.gpus", True, "targets.0.gpus"),
    ("targets.0.reach", {"kind": "process", "model_path": "m", "port": "80"}, "targets.0.reach.port"),
    # how many
    ("workloads.0.requests", 0, "workloads.0.requests"),
    ("workloads.0.requests", -5, "workloads.0.requests"),
    ("workloads.0.requests", 10**9, "workloads.0.requests"),
    ("workloads.0.requests", "ten", "workloads.0.requests"),
    ("workloads.0.output_tokens.tokens", 0, "workloads.0.output_tokens.tokens"),
    ("workloads.0.prompts.input_tokens.tokens", -1, "workloads.0.prompts.input_tokens.tokens"),
    ("limits", {"run_timeout_s": 0}, "limits.run_timeout_s"),
    ("seed", -1, "seed"),
    ("priority", 101, "priority"),
    ("slo", {}, "slo"),
    # what does not go together
    ("workloads.0.prompts.input_tokens.tokens", 40_000, "workloads.0.prompts.input_tokens"),
    ("workloads.0.lengths", "overlay", "workloads.0.lengths"),
    ("workloads.0.lengths", "length-matched", "workloads.own.lengths"),
    ("targets", [TARGET, TARGET], "targets.1"),
    ("workloads", [WORKLOAD, WORKLOAD], "workloads.1.name"),
    ("targets", [], "targets"),
    ("targets", ..., "targets"),
    ("workloads", "burst-100x128x128", "workloads"),
    ("targets", [7], "targets.0"),
    # where it may not go
    ("targets.0.reach.url", "ftp://127.0.0.1", "targets.0.reach.url"),
    ("targets.0.reach.url", "http://user:word@127.0.0.1:9", "targets.0.reach.url"),
    ("targets.0.reach.url", "http://169.254.169.254", "targets.0.reach.url"),
    ("targets.0.reach.url", "http://[fe80::1]:80", "targets.0.reach.url"),
    ("targets.0.reach.url", "http://10.1.2.3", "targets.0.reach.url"),
    ("targets.0.reach.url", "http://127.0.0.1:99999", "targets.0.reach.url"),
    ("targets.0.reach.url", "127.0.0.1:9", "targets.0.reach.url"),
    ("targets.0.reach", {"kind": "process", "model_path": "m"}, "targets.0.reach.kind"),
    ("targets.0.reach.api_key_env", "PATH", "targets.0.reach.api_key_env"),
    ("targets.0.headers", {"Authorization": "Bearer x"}, "targets.0.headers"),
    ("targets.0.flags", ["--api-key", "sk-123"], "targets.0.flags.1"),
    ("targets.0.tokenizer", "/etc/passwd", "targets.0.tokenizer"),
    # what cannot be kept
    ("name", "a\x00b", "name"),
    ("labels", {"team": "\ud800"}, "labels.team"),
    ("labels", {"": "x"}, "labels."),
    ("workloads.0.extra_body", {"n": {"m": ["\x00"]}}, "workloads.0.extra_body.n.m.0"),
    ("workloads.0.extra_body", {"n": 10**40}, "workloads.0.extra_body.n"),
]


@pytest.mark.parametrize(("path", "value", "field"), BAD_JOBS, ids=[f"{p}={str(v)[:30]!r}" for p, v, _ in BAD_JOBS])
def test_a_bad_job_is_refused_at_its_field(shared_client: TestClient, path: str, value: Any, field: str) -> None:
    answer = shared_client.post("/v1/jobs", content=json.dumps(set_at(JOB, path, value)), headers=JSON)
    assert field in refused(answer)
    assert shared_client.get("/v1/runs").json()["items"] == []


def test_a_number_in_quotes_is_told_to_lose_them(shared_client: TestClient) -> None:
    (problem,) = shared_client.post("/v1/jobs", json=JOB | {"repeats": "3"}).json()["errors"]
    assert problem == {
        "field": "repeats",
        "problem": "must be a number, not text",
        "mend": "write a number, without quotes",
    }


def test_a_whole_number_may_have_a_point(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=json.dumps(JOB | {"repeats": 2.0}), headers=JSON)
    assert (answer.status_code, answer.json()["counts"]) == (202, {"queued": 2})


def test_too_many_runs_are_several_jobs(shared_client: TestClient) -> None:
    many = [TARGET | {"name": f"t{k}"} for k in range(11)]
    assert refused(shared_client.post("/v1/jobs", json=JOB | {"targets": many, "repeats": 1000})) == ["repeats"]


def test_every_problem_is_told_at_once(shared_client: TestClient) -> None:
    job = set_at(set_at(JOB, "targets.0.engine", "vlm"), "targets.0.reach.url", "http://169.254.169.254")
    assert refused(shared_client.post("/v1/jobs", json=job)) == ["targets.0.engine", "targets.0.reach.url"]


def test_a_secret_is_not_kept_with_a_target(client: TestClient) -> None:
    answer = client.post("/v1/targets", json=TARGET | {"flags": ["--max-num-seqs=8", "--api-key=sk-1234567890"]})
    assert refused(answer) == ["flags.1"]
    assert "$VLLM_API_KEY" in answer.json()["errors"][0]["mend"]
    assert "1234567890" not in answer.text
    named = TARGET | {"flags": ["--max-num-seqs=8", "--api-key=$VLLM_API_KEY"]}
    assert client.post("/v1/targets", json=named).status_code == 201


def test_a_secret_goes_to_its_own_origin_only(client: TestClient) -> None:
    good = set_at(TARGET, "reach.api_key_env", "VLLM_KEY")
    assert client.post("/v1/targets", json=good).status_code == 201
    other = set_at(good | {"name": "b"}, "reach.url", "http://127.0.0.1:10")
    assert refused(client.post("/v1/targets", json=other)) == ["reach.api_key_env"]


def dataset(path: Path) -> dict[str, Any]:
    prompts = {"kind": "dataset", "path": str(path)}
    return JOB | {"workloads": [WORKLOAD | {"prompts": prompts, "requests": 1}]}


def test_a_dataset_is_read_before_anything_runs(client: TestClient, dataset_dir: Path, tmp_path: Path) -> None:
    good, bad, outside = dataset_dir / "good.jsonl", dataset_dir / "bad.jsonl", tmp_path / "outside.jsonl"
    for file in (good, outside):
        file.write_text('{"prompt": "one"}\n')
    bad.write_text('{"prompt": "one"}\n{"prompt": \n')
    (dataset_dir / "link.jsonl").symlink_to(outside)
    assert client.post("/v1/jobs", json=dataset(good)).status_code == 202
    for file in (bad, dataset_dir / "none.jsonl", outside, dataset_dir / ".." / "outside.jsonl"):
        assert refused(client.post("/v1/jobs", json=dataset(file))) == ["workloads.0.prompts.path"]
    assert refused(client.post("/v1/jobs", json=dataset(dataset_dir / "link.jsonl"))) == ["workloads.0.prompts.path"]
    assert "line 2" in client.post("/v1/jobs", json=dataset(bad)).json()["detail"]
    secret = client.post("/v1/jobs", json=dataset(Path("/etc/shadow"))).json()["detail"]
    missing = client.post("/v1/jobs", json=dataset(Path("/etc/no-such-file"))).json()["detail"]
    assert secret == missing


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"hello", 422),
        (b"[]", 422),
        (b"null", 422),
        (b'"text"', 422),
        (b"\xff\xfe", 422),
        (b'{"targets":' + b"[" * 100_000, 400),
        (b'{"repeats":' + b"9" * 5_000 + b"}", 400),
        (b'{"targets":["a"],"workloads":["\\ud800"]}', 422),
        (b'{"repeats":NaN,"targets":["a"],"workloads":["x"]}', 422),
        (b"{" + b" " * 200_001 + b"}", 413),
    ],
)
def test_a_body_that_is_no_job(shared_client: TestClient, body: bytes, status: int) -> None:
    refused(shared_client.post("/v1/jobs", content=body, headers=JSON), status)


def test_a_body_too_large_without_a_length(shared_client: TestClient) -> None:
    pieces = (b" " * 1000 for _ in range(1000))
    refused(shared_client.post("/v1/jobs", content=pieces, headers=JSON), 413)


def test_whoever_sends_too_much_and_then_looks_still_reads_why(tmp_path: Path) -> None:
    with running_service(f"sqlite:///{tmp_path / 'e.sqlite'}", tmp_path / "state", "--api-only") as service:
        request = urllib.request.Request(
            f"{service.client.base_url}/v1/jobs", data=b"x" * 30_000_000, headers={"content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(request, timeout=30)
    with told.value as answer:
        assert answer.status == 413
        assert "larger than" in answer.read().decode()


def test_a_body_of_another_type(shared_client: TestClient) -> None:
    refused(shared_client.post("/v1/jobs", content=b'{"targets":[]}', headers={"content-type": "text/plain"}))
    refused(shared_client.post("/v1/targets", data={"name": "a"}))


BAD_QUERIES = [
    ("/v1/runs?limit=0", "limit"),
    ("/v1/runs?limit=501", "limit"),
    ("/v1/runs?limit=ten", "limit"),
    ("/v1/runs?limit=99999999999999999999999999", "limit"),
    ("/v1/runs?sort=colour", "sort"),
    ("/v1/runs?cursor=not-ours", "cursor"),
    ("/v1/runs?status=done", "status.0"),
    ("/v1/runs?validity=GOOD", "validity.0"),
    ("/v1/runs?since=yesterday", "since"),
    ("/v1/runs?since=2026-01-31T12:00:00", "since"),
    ("/v1/runs?since=2026-02-30", "since"),
    ("/v1/runs?since=20260131", "since"),
    ("/v1/runs?since=2026-01-31Z", "since"),
    ("/v1/runs?since=2026-1-31", "since"),
    ("/v1/runs?until=0001-01-01T00:00:00%2B23:59", "until"),
    ("/v1/runs?label=team", "label.0"),
    ("/v1/runs?label==x", "label.0"),
    ("/v1/runs?engine=%00", "engine"),
    ("/v1/runs?colour=red", "colour"),
    ("/v1/runs?simulated=perhaps", "simulated"),
    ("/v1/runs?" + "&".join(f"engine=e{k}" for k in range(60)), "engine"),
    ("/v1/jobs?status=done", "status.0"),
    ("/v1/jobs?cursor=%FF", "cursor"),
    ("/v1/targets?limit=-1", "limit"),
    ("/v1/runs/a%00b", "run_id"),
    ("/v1/jobs/a b", "job_id"),
    ("/v1/targets/-x", "name"),
    ("/v1/engines?x=1", "x"),
    ("/healthz?x=1", "x"),
    ("/metrics?x=1", "x"),
]


@pytest.mark.parametrize(("path", "field"), BAD_QUERIES)
def test_a_bad_parameter_is_refused_by_name(shared_client: TestClient, path: str, field: str) -> None:
    assert field in refused(shared_client.get(path))


def test_what_is_not_there_and_what_is_not_done(shared_client: TestClient) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/jobs/", "/v1/runs/x/y/z"):
        refused(shared_client.get(path), 404)
    refused(shared_client.put("/v1/jobs"), 405)
    assert shared_client.delete("/v1/jobs").headers["allow"] == "GET, POST"
    assert shared_client.patch("/v1/targets/a").headers["allow"] == "DELETE, GET"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/jobs/nope", "job_id"),
        ("/v1/jobs/nope/events", "job_id"),
        ("/v1/runs/nope", "run_id"),
        ("/v1/runs/nope/requests", "run_id"),
        ("/v1/targets/nope", "name"),
        ("/v1/workloads/nope", "name"),
        ("/v1/compare?runs=nope,neither", "runs"),
    ],
)
def test_what_does_not_exist_is_named(shared_client: TestClient, path: str, field: str) -> None:
    assert refused(shared_client.get(path), 404) == [field]


def test_what_is_taken_is_named(client: TestClient) -> None:
    client.post("/v1/targets", json=TARGET).raise_for_status()
    assert refused(client.post("/v1/targets", json=TARGET), 409) == ["name"]
    key = {"Idempotency-Key": "once"}
    client.post("/v1/jobs", json=JOB, headers=key).raise_for_status()
    assert refused(client.post("/v1/jobs", json=JOB | {"repeats": 2}, headers=key), 409) == ["Idempotency-Key"]


@pytest.mark.parametrize("key", ["", "a" * 201, "two words", "caf\xe9"])
def test_an_idempotency_key_is_plain(shared_client: TestClient, key: str) -> None:
    answer = shared_client.post("/v1/jobs", json=JOB, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert refused(answer) == ["Idempotency-Key"]


def test_a_mend_fits_the_place_it_is_for(shared_client: TestClient) -> None:
    def mend(answer: Any) -> str:
        refused(answer)
        return str(answer.json()["errors"][0]["mend"])

    assert "content type" in mend(shared_client.post("/v1/targets"))
    nested = set_at(JOB, "workloads.0.prompts.input_tokens", "8kB")
    assert "give an object" in mend(shared_client.post("/v1/jobs", json=nested))
    assert "must be the ids of two or more runs" in shared_client.get("/v1/compare?runs=one").json()["detail"]
