"""`enginebench workloads` in all its forms, without a service."""

from __future__ import annotations

import json

import pytest

from services.cli.main import main


@pytest.mark.parametrize("words", [[], ["list"]])
def test_presets_are_listed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workloads", *words]) == 0
    assert "burst-100x128x128" in capsys.readouterr().out
    assert main(["workloads", *words, "--json"]) == 0
    assert {"name", "description", "spec"} == set(json.loads(capsys.readouterr().out)[0])


@pytest.mark.parametrize("words", [["qwen-speed"], ["show", "qwen-speed"], ["show", "qwen-speed", "--json"]])
def test_one_is_shown_with_its_spec(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workloads", *words]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none"], "there is no preset 'none'; there are"),
        (["show"], "give the name of a workload"),
        (["show", "a", "b"], "give one name"),
        (["--server", "http://127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_what_is_not_there_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workloads", *words]) == 2
    assert said in capsys.readouterr().err
