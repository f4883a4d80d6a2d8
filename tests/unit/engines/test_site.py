"""A secret goes where it is bound to, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from engines.errors import TargetRefused
from engines.site import Secret, Site, bearer_token, key_headers
from engines.spec import Attached

SITE = Site(
    Path("state"),
    secrets={
        "BOUND": Secret("s3cret", "https://engines.example"),
        "FREE": Secret("fr33"),
        "BROKEN": Secret("two words"),
        "EMPTY": Secret(""),
    },
)


@pytest.mark.parametrize(
    ("docker_url", "is_local", "here"),
    [
        (None, False, False),
        ("unix:///var/run/docker.sock", False, True),
        # Another host's Docker Engine, and a proxy before this one's, look alike from here.
        ("tcp://gpu1.example:2375", False, False),
        ("tcp://docker-proxy:2375", True, True),
    ],
)
def test_containers_are_on_this_host_where_its_own_docker_starts_them(
    docker_url: str | None, is_local: bool, here: bool
) -> None:
    assert Site(Path("state"), docker_url=docker_url, docker_is_local=is_local).starts_containers_here is here


def test_no_name_no_token() -> None:
    assert bearer_token(Attached(url="http://h"), SITE) is None


@pytest.mark.parametrize("url", ["https://engines.example/v1", "https://Engines.example:443"])
def test_a_bound_secret_goes_to_its_origin(url: str) -> None:
    assert bearer_token(Attached(url=url, api_key_env="BOUND"), SITE) == "s3cret"


@pytest.mark.parametrize(
    "url", ["http://engines.example", "https://engines.example:8443", "https://engines.example.evil.example"]
)
def test_a_bound_secret_goes_nowhere_else_and_is_not_told(url: str) -> None:
    with pytest.raises(TargetRefused, match="bound to another origin") as refused:
        bearer_token(Attached(url=url, api_key_env="BOUND"), SITE)
    assert refused.value.field == "reach.api_key_env"
    assert "s3cret" not in str(refused.value)


def test_an_unbound_secret_goes_where_its_owner_says() -> None:
    assert bearer_token(Attached(url="http://anywhere", api_key_env="FREE"), SITE) == "fr33"


@pytest.mark.parametrize("name", ["MISSING", "EMPTY"])
def test_a_secret_that_is_not_there_is_an_error_with_the_mend(name: str) -> None:
    with pytest.raises(TargetRefused, match=f"set the variable {name}; a service also lists it"):
        bearer_token(Attached(url="http://h", api_key_env=name), SITE)


def test_a_secret_that_would_break_the_header_is_refused_without_showing_it() -> None:
    with pytest.raises(TargetRefused, match="no token has") as refused:
        bearer_token(Attached(url="http://h", api_key_env="BROKEN"), SITE)
    assert "two words" not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "sent"),
    [(None, {"authorization": "Bearer k3y"}), ("API-Key", {"api-key": "k3y"}), ("x-api-key", {"x-api-key": "k3y"})],
)
def test_a_key_goes_as_a_bearer_token_or_as_it_is(header: str | None, sent: dict[str, str]) -> None:
    reach = Attached(url="http://h", api_key_env="FREE", api_key_header=header)
    assert key_headers(reach, "k3y") == sent
    assert key_headers(reach, None) == {}


@pytest.mark.parametrize("header", ["host", "content-length", "x-team", "api key", "-key\n"])
def test_a_key_is_sent_in_no_other_header(header: str) -> None:
    with pytest.raises(ValidationError, match="api_key_header"):
        Attached(url="http://h", api_key_env="FREE", api_key_header=header)


def test_a_header_for_a_key_wants_a_key_and_is_told_only_where_there_is_one() -> None:
    with pytest.raises(ValidationError, match="name the key's secret in api_key_env"):
        Attached(url="http://h", api_key_header="api-key")
    # Specs from before, and their digests, stay what they were.
    assert "api_key_header" not in Attached(url="http://h").model_dump()


def test_a_secret_never_shows_in_a_rendering() -> None:
    assert "s3cret" not in repr(SITE)
    assert "s3cret" not in repr(SITE.secrets["BOUND"])
