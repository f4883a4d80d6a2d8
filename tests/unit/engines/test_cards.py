"""What the driver's tool says of a host's cards. The tool is a script here; the form of its table is the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.cards import HeldBack, held_back, parse_cards, read_cards

TABLE = "0, 0, 1500000, 0, 711320\n1, 250000, 100000, 40, 0\n"


def fake_tool(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_each_card_by_its_index() -> None:
    assert parse_cards(TABLE) == {"0": HeldBack(1.5, 0.0, 0.71132), "1": HeldBack(0.25, 0.00004, 0.0)}


@pytest.mark.parametrize("text", ["", "\n", "No devices were found\n", "0, [N/A], [N/A], [N/A], [N/A]\n", "0, 1\n"])
def test_what_does_not_count_is_left_out(text: str) -> None:
    assert parse_cards(text) == {}


def test_the_tool_is_asked_for_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tool(tmp_path, f'echo "$@" > {tmp_path}/asked; printf "0, 7000000, 0, 0, 0\\n"', monkeypatch)
    assert read_cards() == {"0": HeldBack(7.0, 0.0, 0.0)}
    query, form = (tmp_path / "asked").read_text().split()
    assert query.startswith("--query-gpu=index,clocks_event_reasons_counters.hw_thermal_slowdown,")
    assert form == "--format=csv,noheader,nounits"


@pytest.mark.parametrize("script", ["echo 'Field is not a valid field to query.'; exit 2", "exit 9"])
def test_a_driver_that_does_not_count_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    fake_tool(tmp_path, script, monkeypatch)
    assert read_cards() == {}


def test_a_host_without_the_tool_has_no_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_cards() == {}


def test_a_window_is_the_difference_of_two_readings() -> None:
    before = {"0": HeldBack(1.0, 0.0, 5.0), "1": HeldBack(3.0, 0.0, 0.0), "2": HeldBack(0.0, 0.0, 0.0)}
    # Card 1's driver was loaded anew meanwhile; card 2 fell off the bus, and card 3 is new.
    after = {"0": HeldBack(1.5, 0.0, 5.0), "1": HeldBack(0.5, 0.0, 0.0), "3": HeldBack(9.0, 0.0, 0.0)}
    assert held_back(before, after) == {"0": HeldBack(0.5, 0.0, 0.0)}
    assert held_back({}, after) == held_back(before, {}) == {}
