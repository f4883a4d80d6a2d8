"""What the demo shows, from what the service answers."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from services.cli.demo_report import build_report, print_demo

CELL = {
    "target": "a", "engine": "vllm", "model": "m", "workload": "w", "simulated": True, "repeats": 3, "metrics": {},
}  # fmt: skip
SPEC = {"workload": {"requests": 100, "output_tokens": {"tokens": 128}}}


def run(number: int, validity: str) -> dict[str, object]:
    metrics = {"total_input_tokens": 10 * number, "total_output_tokens": None}
    same = {"target": "a", "workload": "w", "metrics": metrics, "reason_codes": []}
    return {"id": f"r{number}", "failures": {"rejected": number}, "validity": validity, **same}


def service(request: httpx.Request) -> httpx.Response:
    """A job of three runs, of which a page of the history shows two."""
    match request.url.path, request.url.params.get("cursor"):
        case "/v1/jobs/j", _:
            body: object = {"cells": [CELL]}
        case "/v1/runs", None:
            body = {"items": [run(1, "VALID"), run(2, "VALID")], "next": "more"}
        case "/v1/runs", "more":
            body = {"items": [run(3, "INVALID")], "next": None}
        case "/v1/runs/r1", _:
            body = {"spec": SPEC}
        case "/v1/references", _:
            body = {"items": []}
        case other:
            raise AssertionError(other)
    return httpx.Response(200, text=json.dumps(body))


def test_a_row_rests_on_all_runs_of_its_cell_however_many_pages_they_fill() -> None:
    with httpx.Client(base_url="http://service", transport=httpx.MockTransport(service)) as client:
        (row,) = build_report(client, ["j"])["rows"]
    assert row["runs"] == ["r1", "r2", "r3"]
    assert row["failed"] == 6
    assert row["total_input_tokens"] == 20
    assert row["total_output_tokens"] is None
    assert row["validity"] == "MIXED"


@pytest.mark.parametrize(("path", "program"), [("", ".venv/bin/enginebench"), ("bin", "enginebench")])
def test_the_command_it_names_is_one_that_is_found(
    path: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = tmp_path / "bin" / "enginebench"
    command.parent.mkdir()
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / path))
    monkeypatch.setattr("sys.argv", [".venv/bin/enginebench", "demo"])
    print_demo({"jobs": [], "rows": [], "published": []}, Path("data"))
    assert f"=sqlite:///data/enginebench.sqlite {program} serve\n" in capsys.readouterr().out
