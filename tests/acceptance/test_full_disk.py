"""What was measured is shown, wherever the file for it cannot be written."""

from __future__ import annotations

import pytest

from engines.simulated.start import simulated_engine
from services.cli.main import main


def test_a_full_disk_costs_the_file_and_not_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    load = ["--requests", "2", "--input-tokens", "16", "--output-tokens", "4", "--calibration", "off"]
    with simulated_engine("vllm-mistral-7b") as server:
        command = ["run", "--engine", "vllm", "--url", server.url, "--model", server.model]
        assert main([*command, *load, "--json", "/dev/full", "--records", "/dev/full"]) == 1
    shown, told = capsys.readouterr()
    assert "output_tokens_per_s" in shown
    assert told.count("cannot write /dev/full: No space left on device; free some space") == 2
