"""Settings come from ENGINEBENCH_* variables; what cannot be read is refused by the variable's name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from services.domain.errors import BadInput
from services.settings import Settings, read_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ENGINEBENCH_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_embedded_and_loopback() -> None:
    settings = read_settings()
    assert settings.database_url.get_secret_value() == "sqlite:///enginebench-data/enginebench.sqlite"
    assert (settings.host, settings.port, settings.is_loopback) == ("127.0.0.1", 8700, True)
    assert (settings.api_keys, settings.allow_launch, settings.allow_private_networks) == ((), False, ())


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBENCH_API_KEYS", "one, two,,")
    monkeypatch.setenv("ENGINEBENCH_ALLOW_PRIVATE_NETWORKS", "10.0.0.0/8,192.168.1.0/24")
    monkeypatch.setenv("ENGINEBENCH_CONTAINERS", "vllm-a, tgi-a,")
    settings = read_settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.allow_private_networks == ("10.0.0.0/8", "192.168.1.0/24")
    assert settings.containers == ("vllm-a", "tgi-a")


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBENCH_PORT", "")
    assert read_settings().port == 8700


def test_keys_and_passwords_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBENCH_API_KEYS", "very-secret")
    monkeypatch.setenv("ENGINEBENCH_METRICS_KEY", "very-secret")
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", "postgresql://user:very-secret@host/name")
    assert "very-secret" not in repr(read_settings())


def test_everything_that_no_line_may_show_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBENCH_API_KEYS", "key-one,key-two")
    monkeypatch.setenv("ENGINEBENCH_METRICS_KEY", "key-of-prometheus")
    monkeypatch.setenv("ENGINEBENCH_DATABASE_URL", "postgresql://user:p%40ss-word@host/name")
    monkeypatch.setenv("GPU_KEY", "key-of-an-engine")
    monkeypatch.setenv("ENGINEBENCH_SECRETS", '{"GPU_KEY": "https://gpu.example:8000"}')
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    keys = {"key-one", "key-two", "key-of-prometheus", "key-of-an-engine"}
    assert read_settings().known_secrets() == keys | {"p%40ss-word", "p@ss-word", "hf_token"}


def test_secrets_are_read_from_their_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_KEY", "value")
    monkeypatch.setenv("ENGINEBENCH_SECRETS", '{"GPU_KEY": "https://gpu.example:8000", "UNSET": "http://other"}')
    assert read_settings().secret_values() == {"GPU_KEY": "value"}


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PORT", "many", "ENGINEBENCH_PORT"),
        ("PORT", "70000", "ENGINEBENCH_PORT"),
        ("LEASE_S", "0", "ENGINEBENCH_LEASE_S"),
        ("LOG_LEVEL", "loud", "ENGINEBENCH_LOG_LEVEL"),
        ("ALLOW_PRIVATE_NETWORKS", "10.0.0.0/8,nonsense", "ENGINEBENCH_ALLOW_PRIVATE_NETWORKS"),
        ("SECRETS", "not json", "ENGINEBENCH_SECRETS"),
        ("SECRETS", '{"KEY": "nowhere"}', "ENGINEBENCH_SECRETS"),
        ("DOCKER_URL", "docker-proxy:2375", "ENGINEBENCH_DOCKER_URL"),
    ],
)
def test_what_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    monkeypatch.setenv(f"ENGINEBENCH_{variable}", value)
    with pytest.raises(BadInput) as refusal:
        read_settings()
    assert [problem.field for problem in refusal.value.problems] == [told]


def test_about_twenty_fields() -> None:
    assert len(Settings.model_fields) <= 24


def test_every_setting_stands_in_the_example_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = dict(re.findall(r"^#?(ENGINEBENCH_[A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert {*listed} == {f"ENGINEBENCH_{name.upper()}" for name in Settings.model_fields}
    defaults = read_settings()
    for name, value in listed.items():
        monkeypatch.setenv(name, value)
    assert read_settings() == defaults


def test_compose_sets_only_what_is_read() -> None:
    """A variable that no setting knows would be ignored without a word."""
    names = {*re.findall(r"ENGINEBENCH_[A-Z_]+", (ROOT / "docker-compose.yml").read_text())}
    assert names <= {f"ENGINEBENCH_{name.upper()}" for name in Settings.model_fields}
    assert "ENGINEBENCH_DATABASE_URL" in names
