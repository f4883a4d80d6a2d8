"""A result on disk is whole or not there, and comes back as it was."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from services.worker.spool import SpooledResult, waiting_results, write_result
from tests.fakes.jobs import record, result


def write(folder: Path, **more: object) -> SpooledResult:
    given = {"run_id": "r-1", "attempt": 2, "worker": "w", "result": result(), "records": [record(0), record(1)]}
    return write_result(folder, **(given | more))  # type: ignore[arg-type]


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "results")
    (waiting,) = waiting_results(tmp_path / "results")
    assert (waiting.run_id, waiting.attempt, waiting.worker) == ("r-1", 2, "w")
    assert waiting.result == result()
    assert list(waiting.records()) == [record(0), record(1)]
    waiting.discard()
    assert waiting_results(tmp_path / "results") == []


def test_what_json_cannot_say_is_missing_not_zero(tmp_path: Path) -> None:
    write(tmp_path, result=result(rate=math.nan), records=[{"index": 0, "values": [1.0, math.inf]}])
    (waiting,) = waiting_results(tmp_path)
    assert waiting.result["summary"]["output_tokens_per_s"] is None
    assert list(waiting.records()) == [{"index": 0, "values": [1.0, None]}]


def test_half_a_surrogate_pair_comes_through(tmp_path: Path) -> None:
    write(tmp_path, records=[{"text": "\ud800\x00"}])
    (waiting,) = waiting_results(tmp_path)
    assert list(waiting.records()) == [{"text": "\ud800\x00"}]


def test_a_draft_of_a_killed_worker_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "r-1.1.draft").write_text('{"run_id": "r-1", "att')
    assert waiting_results(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_result_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "r-1.1.jsonl").write_text("garbage\n")
    assert waiting_results(tmp_path) == []
    assert (tmp_path / "refused" / "r-1.1.jsonl").exists()


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="results"):
        write(tmp_path / "results")
