"""The command line reads what people type, and starts without anything heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.jobs import _job_body, progress_line
from services.cli.main import build_parser, main
from services.cli.run import _spec
from services.cli.service import Refused

HEAVY = ("pydantic", "httpx", "fastapi", "uvicorn", "sqlalchemy", "rich", "yaml", "prometheus_client")


def test_building_the_parser_imports_nothing_heavy() -> None:
    code = (
        "import sys; from services.cli.main import build_parser; build_parser(); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_service_arguments_hold_before_and_after_the_action() -> None:
    for words in (
        ["jobs", "--server", "http://h:1", "--json", "list"],
        ["jobs", "list", "--server", "http://h:1", "--json"],
        ["targets", "--server", "http://h:1", "probe", "a", "--json"],
    ):
        arguments = build_parser().parse_args(words)
        assert (arguments.server, arguments.json) == ("http://h:1", True), words


def test_without_an_action_a_list_is_meant() -> None:
    for command in ("jobs", "runs", "targets"):
        assert build_parser().parse_args([command]).limit > 0


@pytest.mark.parametrize("words", [["job", "--repeats", "many"], ["jobs", "show"], ["runs", "nonsense"], ["nothing"]])
def test_wrong_use_is_two(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(words)
    assert caught.value.code == 2


def body_of(*words: str) -> dict[str, object]:
    return _job_body(build_parser().parse_args(["job", *words]))


def test_a_job_from_flags() -> None:
    found = body_of("--target", "a", "--target", "b", "--workload", "w", "--repeats", "3", "--label", "team=x=y")
    assert found == {"targets": ["a", "b"], "workloads": ["w"], "repeats": 3, "labels": {"team": "x=y"}}


def test_a_job_from_a_file_with_flags_over_it(tmp_path: Path) -> None:
    job, workload = tmp_path / "job.yaml", tmp_path / "own.json"
    job.write_text("targets: [a]\nworkloads: [burst-100x128x128]\nrepeats: 2\n")
    workload.write_text('{"name": "own"}')
    found = body_of("submit", str(job), "--workload", str(workload), "--repeats", "5")
    assert found == {"targets": ["a"], "workloads": ["burst-100x128x128", {"name": "own"}], "repeats": 5}


@pytest.mark.parametrize("text", ["[1, 2]", "{", "targets: [a]\n", "\x00"])
def test_a_file_that_holds_no_job(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(Refused) as caught:
        body_of(str(file))
    assert caught.value.code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"none\.yaml"):
        body_of(str(tmp_path / "none.yaml"))


def test_progress_in_one_line() -> None:
    run = {
        "target": "t",
        "workload": "w",
        "repeat": 1,
        "progress": {"stage": "measuring", "finished": 5, "requests": 9},
    }
    data = {"counts": {"completed": 1, "running": 1, "queued": 2}, "running": [run, {**run, "progress": None}]}
    assert progress_line("j", data) == (
        "job j: 1 of 4 runs ended; t × w #1: measuring, 5 of 9 requests; t × w #1: taken up"
    )


@pytest.mark.parametrize(("words", "calibrated"), [([], True), (["on"], True), (["off"], False)])
def test_a_run_is_calibrated_unless_told_otherwise(words: list[str], calibrated: bool) -> None:
    flags = ["run", "--engine", "vllm", "--url", "http://127.0.0.1:8000", "--model", "m"]
    spec = _spec(build_parser().parse_args([*flags, *(["--calibration", *words] if words else [])]))
    assert spec.calibration is calibrated
    # as older specs read, so that their digests hold
    assert spec.model_dump(mode="json").get("calibration") == (None if calibrated else False)


@pytest.mark.parametrize(("words", "seed"), [([], 7), (["--seed", "3"], 3)])
def test_a_seed_is_the_flag_s_or_the_file_s(words: list[str], seed: int, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "requests: 3\nseed: 7\nprompts: {kind: synthetic, input_tokens: {kind: fixed, tokens: 9}}\n"
        "output_tokens: {kind: fixed, tokens: 4}\n"
    )
    flags = ["run", "--engine", "vllm", "--url", "http://127.0.0.1:8000", "--model", "m", "--workload", str(file)]
    spec = _spec(build_parser().parse_args([*flags, *words]))
    assert (spec.seed, spec.workload.seed) == (seed, None)


@pytest.mark.parametrize(("words", "interval_s"), [([], 0.2), (["1.5"], 1.5), (["off"], None)])
def test_a_run_reads_the_engines_metrics_as_often_as_told(words: list[str], interval_s: float | None) -> None:
    flags = ["run", "--engine", "vllm", "--url", "http://127.0.0.1:8000", "--model", "m"]
    spec = _spec(build_parser().parse_args([*flags, *(["--scrape-interval", *words] if words else [])]))
    assert spec.scrape_interval_s == interval_s
    # As the queue keeps it, so it comes back.
    assert type(spec).model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--scrape-interval", "often"], "--scrape-interval: must be a number"),
        (["--scrape-interval", "0"], "--scrape-interval: Input should be greater than or equal to 0.05"),
        (["--timeout", "-3"], "--timeout: Input should be greater than 0"),
        (["--slo-ttft", "0"], "--slo-ttft: "),
        (["--warmup", "-1"], "run: --warmup: Input should be greater than or equal to 0\n"),
        (["--input-tokens", "0"], "run: --input-tokens: Input should"),
        (["--rate", "5", "--concurrency", "0"], "run: --max-concurrency: Input should"),
        (["--rate", "5", "--concurrency", "3", "--max-concurrency", "4"], "both cap an open loop; give one"),
    ],
)
def test_what_is_wrong_is_told_by_its_flag(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--engine", "vllm", "--url", "http://127.0.0.1:9", "--model", "m", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Value error" not in said


def test_one_line_says_which_flag_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--model"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
