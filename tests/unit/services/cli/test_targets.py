"""`enginebench targets create --compose` where some of them are stored already."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli.main import main
from services.cli.service import Refused, Service


def test_those_of_the_compose_file_that_are_there_already_stay_and_the_others_are_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier try may have broken off half-way."""
    stored = {"tgi-qwen2.5-7b"}
    names: list[str] = []

    def post(_: Service, path: str, body: Any = None) -> Any:
        if body["name"] in stored:
            raise Refused(f"the name {body['name']!r} is taken", status=409)
        names.append(body["name"])
        return body

    monkeypatch.setattr(Service, "post", post)
    assert main(["targets", "create", "--compose"]) == 0
    out, err = capsys.readouterr()
    assert names == ["vllm-qwen2.5-7b", "vllm-mistral-7b", "tgi-mistral-7b"]
    assert "target tgi-qwen2.5-7b is there already" in err
    assert out.count("started for its runs") == 3

    def fail(_: Service, path: str, body: Any = None) -> Any:
        raise Refused("bad input", status=422)

    monkeypatch.setattr(Service, "post", fail)
    assert main(["targets", "create", "--compose"]) == 2
