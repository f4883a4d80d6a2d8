"""The product's own simulated engines are targets like any other, and are known for what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.contract import Endpoint
from engines.simulated.start import simulated_engine
from engines.spec import Attached, TargetSpec
from engines.target import Site, open_target


@pytest.mark.parametrize("profile", ["vllm-mistral-7b", "tgi-mistral-7b"])
def test_a_simulated_engine_opens_on_every_endpoint(profile: str, tmp_path: Path) -> None:
    engine = profile.partition("-")[0]
    endpoints = [Endpoint.COMPLETIONS, Endpoint.CHAT] + ([Endpoint.NATIVE] if engine == "tgi" else [])
    with simulated_engine(profile) as server:
        for endpoint in endpoints:
            spec = TargetSpec(engine=engine, model=server.model, reach=Attached(url=server.url), endpoint=endpoint)
            with open_target(spec, Site(tmp_path)) as target:
                assert target.facts.simulated
                assert target.facts.simulation is not None
                assert target.facts.simulation["profile"] == profile
                assert target.facts.version is not None
                assert target.facts.model_max_tokens is not None
                tokens = target.tokenize("one two three")
                assert tokens is not None
                before = target.counters()
                assert before["requests_success_total"] > 0
