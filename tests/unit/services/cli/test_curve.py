"""Sweeps and searches as flags, and curves as tables."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli.curve import print_curve, print_search
from services.cli.jobs import _job_body, is_good
from services.cli.main import build_parser
from services.cli.service import Refused
from services.domain.job import JobSpec


def body_of(*words: str) -> dict[str, Any]:
    return _job_body(build_parser().parse_args(["job", "--target", "a", "--workload", "burst-100x128x128", *words]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sweep-concurrency", "1,8,64"], {"sweep": {"axis": "concurrency", "values": [1, 8, 64]}}),
        (
            ["--sweep-rate", "1:8:4", "--arrival", "constant", "--least-seconds", "5", "--slo", "ttft=0.5"],
            {
                "sweep": {
                    "axis": "rate_per_s",
                    "low": 1,
                    "high": 8,
                    "steps": 4,
                    "arrival": "constant",
                    "least_s": 5,
                },
                "slo": {"ttft_s": 0.5},
            },
        ),
        (
            ["--search-rate", "1:64", "--slo", "ttft=0.5, tpot=0.05", "--attainment", "0.9", "--waves", "5"],
            {
                "search": {
                    "axis": "rate_per_s",
                    "low": 1,
                    "high": 64,
                    "slo": {"ttft_s": 0.5, "tpot_s": 0.05},
                    "attainment": 0.9,
                    "waves": 5,
                }
            },
        ),
        (["--slo", "e2e=3"], {"slo": {"e2e_s": 3}}),
        ([], {}),
    ],
)
def test_what_the_flags_ask_for(words: list[str], expected: dict[str, Any]) -> None:
    body = body_of(*words)
    assert {name: body[name] for name in body if name not in ("targets", "workloads")} == expected
    JobSpec.model_validate(body)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sweep-rate", "1", "--search-rate", "1:2"], "give one of"),
        (["--search-rate", "1:2"], "needs --slo"),
        (["--search-rate", "1", "--slo", "ttft=1"], "LOW:HIGH"),
        (["--sweep-rate", "1:2"], "LOW:HIGH:STEPS"),
        (["--sweep-rate", "1,x"], "in numbers"),
        (["--sweep-rate", "1:8:nan"], "in numbers"),
        (["--sweep-rate", "1:8:3.7"], "whole number of points"),
        (["--sweep-rate", "1", "--confidence", "0.9"], "belong to --search"),
        (["--confidence", "0.9"], "belong to --search"),
        (["--waves", "9"], "belong to a sweep"),
        (["--slo", "ttft"], "ttft=S"),
        (["--slo", "latency=1"], "ttft=S"),
    ],
)
def test_flags_that_do_not_go_together(words: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        body_of(*words)


def spread(median: float, half: float = 0.0) -> dict[str, Any]:
    return {"n": 2 if half else 1, "median": median, "min": median - half, "max": median + half, "relative": None}


def test_a_curve_is_a_table_with_what_does_not_count_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("output_tokens_per_s_per_gpu", "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s")
    point = dict.fromkeys(names) | {
        "value": 8.0,
        "workload": "w@concurrency=8",
        "runs": 3,
        "valid": 2,
        "output_tokens_per_s": spread(1234.5, 10),
        "tokens_per_s_per_user": spread(50),
        "p99_supported": False,
        "left_out": [{"run_id": "r1", "state": "INVALID", "codes": ["failures"], "why": "3 of 9 requests failed"}],
    }
    series = {"target": "[/b]", "workload": "w", "simulated": True, "points": [point]}
    print_curve({"axis": "concurrency", "series": [series]})
    out = capsys.readouterr().out
    for text in (
        "[/b] (simulated) × w",
        "1,234.5 ± 10.0",
        "50.0",
        "2 of 3",
        "–",
        "r1",
        "3 of 9 requests failed",
        "459",
    ):
        assert text in out


def test_a_search_is_said_in_words_and_decides_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"value": 8.0, "said": "meets", "runs": 1, "valid": 1, "met": 9, "requests": 9}
    value |= {"attainment_low": 0.99, "attainment_high": 1.0}
    search = {"target": "t", "workload": "w", "axis": "rate_per_s", "state": "found", "probes": 1, "values": [value]}
    print_search(search | {"words": "as good as can be"})
    out = capsys.readouterr().out
    assert "as good as can be" in out
    assert "0.9900" in out
    repeated = [{"validity": "INVALID"}, {"validity": "VALID"}]
    assert is_good({"searches": [search], "runs": repeated})
    assert not is_good({"searches": [search, search | {"state": "inconclusive"}], "runs": repeated})
    assert not is_good({"searches": [], "runs": repeated})
