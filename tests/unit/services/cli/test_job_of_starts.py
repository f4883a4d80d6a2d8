"""A job of starts on the command line: how it is asked for, and how its starts are shown."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from services.cli import jobs
from services.cli.jobs import _job_body, print_job


def body(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    jobs.add_parser(parser.add_subparsers())
    return _job_body(parser.parse_args(["job", "--target", "a", "--workload", "w", *words]))


def test_either_number_asks_for_starts() -> None:
    assert body("--starts", "4", "--bursts", "2")["starts"] == {"count": 4, "bursts": 2}
    assert body("--starts", "4")["starts"] == {"count": 4}
    assert body("--bursts", "2")["starts"] == {"bursts": 2}
    assert "starts" not in body("--repeats", "2")


def spread(median: float, **more: Any) -> dict[str, Any]:
    flat = {"n": 2, "median": median, "min": median - 1, "max": median + 1, "relative": 0.01}
    return flat | {"bursts": None, "relative_within": None, "interval": None} | more


def cell(**more: Any) -> dict[str, Any]:
    return {
        "target": "a",
        "workload": "w",
        "simulated": False,
        "valid": 4,
        "repeats": 4,
        "starts": [],
        "metrics": {"output_tokens_per_s": spread(100.0)},
    } | more


def shown(capsys: pytest.CaptureFixture[str], *cells: dict[str, Any]) -> str:
    job = {"id": "1", "name": "n", "status": "completed", "counts": {}, "cells": cells}
    print_job(job | {"searches": [], "runs": [], "asymmetries": []})
    return capsys.readouterr().out


def test_each_start_is_shown_with_the_spread_between_and_within(capsys: pytest.CaptureFixture[str]) -> None:
    starts = [{"metrics": {"output_tokens_per_s": spread(rate)}} for rate in (101.5, 98.5)]
    over = spread(100.0, bursts=4, relative=0.015, relative_within=0.004, interval=(80.9, 119.1))
    out = shown(capsys, cell(starts=starts, metrics={"output_tokens_per_s": over}))
    (row,) = [line for line in out.splitlines() if "2 × 2" in line]
    for words in ("101.5  98.5", "1.5%", "0.4%", "80.9 to 119.1"):
        assert words in row


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({"id": "k1", "name": "ci"}, "completed, 1 completed, asked for by ci (key k1)"),
        ({"id": None, "name": "environment"}, "completed, 1 completed, asked for by environment"),
        (None, "completed, 1 completed"),
    ],
)
def test_whose_key_a_job_came_with_is_shown(
    capsys: pytest.CaptureFixture[str], key: dict[str, Any] | None, words: str
) -> None:
    job = {"id": "1", "name": "n", "status": "completed", "counts": {"completed": 1}, "created_by": key}
    print_job(job | {"cells": [], "searches": [], "runs": [], "asymmetries": []})
    assert capsys.readouterr().out.splitlines()[0].strip() == f"job 1 n: {words}"


def test_a_start_that_gave_nothing_is_a_gap(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, cell(starts=[{"metrics": {}}], metrics={}))
    assert "0 × 0" in out


def test_runs_without_starts_have_no_second_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert "by start of the engine" not in shown(capsys, cell())
