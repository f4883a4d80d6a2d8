"""A `vllm` on PATH that is the fake engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


@pytest.fixture(autouse=True)
def fake_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vllm` starts the fake engine; nothing else of an engine is on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    script = programs / "vllm"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_ENGINE}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
