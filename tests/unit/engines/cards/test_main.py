"""`python -m engines.cards`: ours beside nvidia-smi's. Both are stand-ins here."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.cards.__main__ import ROWS, ask_program, main
from tests.fakes.nvml import Driver, installed, no_driver

#: As the real one: it refuses a whole question with a name in it that its version does not know.
TOOL = """#!/bin/sh
case "$2" in
  *unknown*) echo 'Field "unknown" is not a valid field to query.'; exit 2 ;;
  *{refused}*) echo 'Field is not a valid field to query.'; exit 2 ;;
  --query-gpu=power.draw) echo '301.25' ;;
  *,*) echo 'NVIDIA H100 80GB HBM3, 81559, 71000, 700.00, 312.50' ;;
  *) echo 'alone' ;;
esac
"""


def fake_tool(folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str = "nothing") -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(TOOL.format(refused=refused))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def line(text: str, title: str) -> list[str]:
    (found,) = [one for one in text.splitlines() if one.strip().startswith(title)]
    return found.split()


def test_both_are_shown_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tool(tmp_path, monkeypatch)
    with installed(Driver(), tmp_path):
        assert main([]) == 0
    told = capsys.readouterr().out
    assert told.startswith("driver 580.95.05, CUDA 12.8, 2 cards\n")
    first = told.partition("card 1")[0]
    assert line(first, "power limit, W")[3:] == ["700.0", "700.00"]
    assert line(first, "power, W")[2:] == ["312.5", "312.50"]
    assert line(first, "held back by")[3:] == ["nothing", "not", "told"]


def test_what_nvidia_smi_refuses_together_is_asked_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tool(tmp_path, monkeypatch, refused="sw_power_cap")
    with installed(Driver(), tmp_path):
        assert main([]) == 0
    first = capsys.readouterr().out.partition("card 1")[0]
    assert line(first, "memory, MiB")[2:] == ["81920.0", "alone"]
    assert line(first, "power cap, µs")[3:] == ["0.0", "not", "told"]


def test_energy_is_held_against_nvidia_smi_s_watts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tool(tmp_path, monkeypatch)
    with installed(Driver(), tmp_path):
        assert main(["--seconds", "0.01"]) == 0
    energy = line(capsys.readouterr().out.partition("card 1")[0], "energy:")
    assert energy[1:4] == ["1.0", "J", "in"]
    assert energy[-6:] == ["nvidia-smi:", "301.2", "W", "over", "1", "questions"]


def test_a_host_without_cards_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with no_driver():
        assert main([]) == 1
    assert "no NVIDIA driver answers" in capsys.readouterr().out


def test_a_lost_card_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver = Driver(answers={"nvmlDeviceGetPowerUsage": 15})
    with installed(driver, tmp_path):
        assert main([]) == 1
    assert "card 0: GPU is lost" in capsys.readouterr().out


def test_without_nvidia_smi_ours_stand_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_program(0, ["name"]) == {}
    with installed(Driver(), tmp_path):
        assert main([]) == 0
    assert capsys.readouterr().out.count("not told") == 2 * len(ROWS)
