"""What the demo shows, from what the service answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli import demo
from services.cli.demo_report import build_report, is_good, print_demo
from services.store.rows import RunMetrics

SPEC = {"workload": {"requests": 100, "output_tokens": {"tokens": 128}}}
STOLEN = {"code": "cpu_stolen", "severity": "inconclusive", "message": "the hypervisor gave a core away"}
OTHER = {"code": "prefix_cache", "severity": "inconclusive", "message": "a cache served half of it"}
NOTE = {"code": "resends", "severity": "note", "message": "one was sent again"}


def run(number: int, validity: str, *, failed: int = 0, status: str = "completed") -> dict[str, Any]:
    figures = dict.fromkeys(RunMetrics.__dataclass_fields__) | {"output_tokens_per_s": 100.0 * number}
    return {
        "id": f"r{number}", "status": status, "target": "a", "engine": "vllm", "model": "m", "workload": "w",
        "simulated": True, "failures": {"rejected": failed}, "validity": validity,
        "metrics": figures | {"total_input_tokens": 10 * number},
    }  # fmt: skip


def service_of(*pages: list[dict[str, Any]], reasons: Sequence[dict[str, str]] = (STOLEN, NOTE)) -> httpx.Client:
    """A job whose runs fill these pages of the history."""

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path, request.url.params.get("cursor"):
            case "/v1/runs", cursor:
                place = int(cursor or 0)
                body: object = {"items": pages[place], "next": str(place + 1) if place + 1 < len(pages) else None}
            case "/v1/references", _:
                body = {"items": []}
            case path, _:
                assert path.startswith("/v1/runs/r")
                body = {"spec": SPEC, "result": {"validity": {"reasons": list(reasons)}}}
        return httpx.Response(200, text=json.dumps(body))

    return httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))


def test_a_row_rests_on_the_valid_runs_however_many_pages_they_fill() -> None:
    with service_of([run(1, "VALID"), run(2, "INCONCLUSIVE")], [run(3, "VALID")]) as client:
        report = build_report(client, ["j"])
    (row,) = report["rows"]
    assert row["runs"] == ["r1", "r2", "r3"]
    assert row["total_input_tokens"] == 20
    assert row["total_output_tokens"] is None
    assert (row["output_tokens_per_s"], row["output_tokens_per_s_spread"]) == (200, 100)
    assert (row["validity"], row["repeats"]) == ("VALID", 2)
    assert row["left_out"] == [{"run": "r2", "validity": "INCONCLUSIVE", "reasons": [STOLEN["message"]]}]


def test_a_row_without_a_valid_run_is_shown_as_what_it_is() -> None:
    with service_of([run(1, "INCONCLUSIVE"), run(2, "INCONCLUSIVE")]) as client:
        (row,) = build_report(client, ["j"])["rows"]
    assert (row["validity"], row["repeats"], row["output_tokens_per_s"]) == ("INCONCLUSIVE", 2, 150)


@pytest.mark.parametrize(
    ("last", "good"),
    [
        (run(2, "VALID"), True),
        (run(2, "INCONCLUSIVE"), True),
        (run(2, "INVALID"), False),
        (run(2, "INCONCLUSIVE", failed=1), False),
        (run(2, "VALID", status="failed"), False),
    ],
)
def test_a_busy_machine_does_not_break_the_demo_and_all_else_does(last: dict[str, Any], *, good: bool) -> None:
    with service_of([run(1, "VALID"), last]) as client:
        assert is_good(build_report(client, ["j"])) is good


@pytest.mark.parametrize(("state", "reasons", "again"), [
    ("INCONCLUSIVE", [STOLEN, NOTE], True),
    ("INCONCLUSIVE", [STOLEN, OTHER], False),
    ("INVALID", [STOLEN], False),
])  # fmt: skip
def test_what_the_machine_alone_spoilt_is_carried_out_again(
    state: str, reasons: list[dict[str, str]], *, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[tuple[Any, ...]] = []

    def submit(_client: object, *asked: Any) -> str:
        posted.append(asked)
        return f"j{len(posted)}"

    monkeypatch.setattr(demo, "_submit", submit)
    monkeypatch.setattr(demo, "_follow", lambda *_: None)
    urls = {"a": ("http://a", "m"), "b": ("http://b", "m")}
    with service_of([run(1, "VALID"), run(2, state), run(3, state)], reasons=reasons) as client:
        jobs = demo._carry_out(client, "batch", urls, "w", 3)
    assert posted[0] == ("batch", urls, "w", 3)
    assert posted[1:] == ([("batch, again", {"a": urls["a"]}, "w", 2)] if again else [])
    assert jobs == [f"j{number + 1}" for number in range(len(posted))]


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
