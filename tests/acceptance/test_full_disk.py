"""What was measured is kept and shown, whatever cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.simulated.start import simulated_engine
from services.cli.main import main

LOAD = ["--requests", "2", "--input-tokens", "16", "--output-tokens", "4", "--calibration", "off"]


def test_a_full_disk_costs_the_file_and_not_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with simulated_engine("vllm-mistral-7b") as server:
        command = ["run", "--engine", "vllm", "--url", server.url, "--model", server.model]
        assert main([*command, *LOAD, "--json", "/dev/full", "--records", "/dev/full"]) == 1
    shown, told = capsys.readouterr()
    assert "output_tokens_per_s" in shown
    assert told.count("cannot write /dev/full: No space left on device; free some space") == 2


def test_a_reader_that_has_gone_costs_the_report_and_not_the_files(tmp_path: Path) -> None:
    result, records = tmp_path / "result.json", tmp_path / "records.jsonl"
    reader, writer = os.pipe()
    os.close(reader)
    with simulated_engine("vllm-mistral-7b") as server:
        command = ["run", "--engine", "vllm", "--url", server.url, "--model", server.model, *LOAD]
        ended = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *command, "--json", result, "--records", records],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    os.close(writer)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr
    assert json.loads(result.read_text())["summary"]["successes"] == 2
    assert len(records.read_text().splitlines()) == 2
