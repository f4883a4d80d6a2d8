"""Models are fetched once, at one commit, and each has an overlay beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.errors import LaunchFailed
from engines.launch import container_models
from engines.launch.container_models import STAMP, main, provide

QWEN = "Qwen/Qwen2.5-7B-Instruct@main"


class Hub:
    """Brings a tiny model, and counts."""

    def __init__(self, config: str = '{"vocab_size": 50, "eos_token_id": 2}') -> None:
        self.asked: list[tuple[str, str]] = []
        self.config = config

    def fetch(self, repository: str, revision: str, into: Path) -> str:
        self.asked.append((repository, revision))
        into.mkdir(parents=True, exist_ok=True)
        (into / "config.json").write_text(self.config)
        (into / "model.safetensors").write_bytes(b"weights")
        return f"commit-{len(self.asked)}"


def test_a_model_is_fetched_once_and_has_an_overlay(tmp_path: Path) -> None:
    hub = Hub()
    assert provide(tmp_path, QWEN, hub.fetch) == "Qwen/Qwen2.5-7B-Instruct fetched, commit commit-1"
    assert provide(tmp_path, QWEN, hub.fetch) == "Qwen/Qwen2.5-7B-Instruct is here, commit commit-1"
    assert hub.asked == [("Qwen/Qwen2.5-7B-Instruct", "main")]
    overlay = tmp_path / "overlay" / "Qwen2.5-7B-Instruct"
    assert json.loads((overlay / "config.json").read_text())["eos_token_id"] == 50
    assert (overlay / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((tmp_path / "Qwen2.5-7B-Instruct" / STAMP).read_text())["commit"] == "commit-1"


def test_another_revision_is_fetched_anew(tmp_path: Path) -> None:
    hub = Hub()
    provide(tmp_path, QWEN, hub.fetch)
    provide(tmp_path, "Qwen/Qwen2.5-7B-Instruct@abc", hub.fetch)
    assert [revision for _, revision in hub.asked] == ["main", "abc"]


def test_one_that_broke_off_is_fetched_again(tmp_path: Path) -> None:
    hub = Hub("{}")
    with pytest.raises(LaunchFailed, match="vocab_size"):
        provide(tmp_path, QWEN, hub.fetch)
    hub.config = '{"vocab_size": 50}'
    provide(tmp_path, QWEN, hub.fetch)
    assert len(hub.asked) == 2


def test_what_cannot_be_had_is_said_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path, wanted: str) -> str:
        raise OSError("401 gated")

    monkeypatch.setattr(container_models, "provide", refuse)
    assert main([str(tmp_path), QWEN]) == 1
    assert f"{QWEN} cannot be had: 401 gated; set HF_TOKEN" in capsys.readouterr().err
