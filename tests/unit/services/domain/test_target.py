"""A target's name, and what a run on it holds for itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engines.spec import TargetSpec
from services.domain.target import NamedTarget, occupied_resources


def spec(reach: dict[str, Any], **more: Any) -> TargetSpec:
    return TargetSpec.model_validate({"engine": "vllm", "model": "m", "reach": reach} | more)


CONTAINER = {"kind": "container", "container": "c", "url": "http://h:8000"}


@pytest.mark.parametrize(
    ("reach", "more", "held"),
    [
        ({"kind": "attached", "url": "http://h"}, {}, ("server:h:80",)),
        ({"kind": "attached", "url": "https://H/v1"}, {}, ("server:h:443",)),
        ({"kind": "attached", "url": "http://[::1]:9"}, {"resources": ["gpu:0"]}, ("gpu:0", "server:127.0.0.1:9")),
        ({"kind": "process", "model_path": "m"}, {}, ("gpu:0",)),
        ({"kind": "process", "model_path": "m"}, {"gpus": 2}, ("gpu:0", "gpu:1")),
        ({"kind": "process", "model_path": "m"}, {"resources": ["gpu:3"]}, ("gpu:3",)),
        (CONTAINER, {}, ("container:c", "gpu:0", "server:h:8000")),
        (CONTAINER, {"resources": ["gpu:3"]}, ("container:c", "gpu:3", "server:h:8000")),
    ],
)
def test_what_a_run_holds(reach: dict[str, Any], more: dict[str, Any], held: tuple[str, ...]) -> None:
    assert occupied_resources(spec(reach, **more)) == held


def test_two_names_for_one_server_never_run_at_once() -> None:
    one, other = (spec({"kind": "attached", "url": f"http://h:8000{path}"}) for path in ("", "/v1"))
    assert set(occupied_resources(one)) & set(occupied_resources(other))


ADDRESSES = {
    "localhost": ["::1", "127.0.0.1"],
    "127.1": ["127.0.0.1"],
    "gpu1.example": ["192.0.2.7"],
    "alias.example.": ["192.0.2.7"],
    "both.example": ["2001:db8::7", "192.0.2.9"],
}


def look_up(host: str, port: int) -> list[str]:
    if host not in ADDRESSES:
        raise OSError("no such name")
    return ADDRESSES[host]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://127.0.0.1:8801", "http://localhost:8801"),
        ("http://127.0.0.1:8801", "http://127.1:8801"),
        ("http://127.0.0.1:8801", "http://[::1]:8801/v1"),
        ("http://127.0.0.1:8801", "http://[::ffff:127.0.0.1]:8801"),
        ("http://127.0.0.1:8801", "http://127.0.0.9:8801"),
        ("http://gpu1.example:80", "http://alias.example./v1"),
        ("http://192.0.2.7", "https://GPU1.example:80"),
        ("http://[2001:db8:0::7]", "http://both.example"),
        ("http://Unknown.example", "http://unknown.example.:80"),
    ],
)
def test_two_spellings_of_one_server_never_run_at_once(one: str, other: str) -> None:
    first, second = (set(occupied_resources(spec({"kind": "attached", "url": url}), look_up)) for url in (one, other))
    assert first & second


def test_two_servers_of_one_host_run_at_once() -> None:
    first, second = (
        set(occupied_resources(spec({"kind": "attached", "url": f"http://localhost:{port}"}), look_up))
        for port in (1, 2)
    )
    assert not first & second


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a" * 101, "é", "a\n"])
def test_a_name_fits_into_a_path(name: str) -> None:
    with pytest.raises(ValidationError):
        NamedTarget.model_validate(
            {"name": name, "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://h"}}
        )


def test_the_spec_is_the_target_without_its_name() -> None:
    named = NamedTarget.model_validate(
        {"name": "a", "engine": "vllm", "model": "m", "reach": {"kind": "attached", "url": "http://h"}, "gpus": 4}
    )
    assert named.spec == spec({"kind": "attached", "url": "http://h"}, gpus=4)
