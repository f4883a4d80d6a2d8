"""A launched engine sees what it needs, and no credentials."""

from __future__ import annotations

import pytest

from engines.launch.surroundings import scrubbed_environment


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS"),
        *("VLLM_CPU_KVCACHE_SPACE", "TOKENIZERS_PARALLELISM", "LC_ALL"),
    ],
)
def test_what_an_engine_needs_is_kept(name: str) -> None:
    assert scrubbed_environment({name: "1"}) == {name: "1"}


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "ENGINEBENCH_DATABASE_URL"),
        *("OPENAI_API_KEY", "HTTPS_PROXY", "PGPASSWORD", "SOMETHING"),
    ],
)
def test_what_an_engine_does_not_need_is_not(name: str) -> None:
    assert scrubbed_environment({name: "1"}) == {}


def test_a_secrets_value_gets_through_under_no_name() -> None:
    environment = {"VLLM_EXTRA": "token=abc123", "HF_HOME": "/cache"}
    assert scrubbed_environment(environment, ["abc123", ""]) == {"HF_HOME": "/cache"}
