"""A run is judged by the cards its target occupies, not by its neighbours'."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench_runner import runner
from bench_runner.plan.presets import PRESETS
from bench_runner.plan.spec import RunSpec
from engines.cards import HeldBack
from engines.spec import TargetSpec

COLD, HOT = HeldBack(0, 0, 0), HeldBack(5, 0, 0)


@pytest.mark.parametrize(
    ("resources", "judged"), [(["gpu:0"], ["0"]), (["gpu:0", "gpu:1"], ["0", "1"]), ([], ["0", "1"])]
)
def test_its_own_cards_alone(resources: list[str], judged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "read_cards", lambda: {"0": COLD, "1": HOT})
    monkeypatch.setattr(runner, "_has_cards_here", lambda _: True)
    reach = {"kind": "attached", "url": "http://127.0.0.1:8000"}
    target = TargetSpec.model_validate({"engine": "vllm", "model": "m", "reach": reach, "resources": resources})
    spec = RunSpec(target=target, workload=PRESETS["burst-100x128x128"])
    assert list(runner._cards_of(spec, cast(Any, SimpleNamespace()))) == judged
