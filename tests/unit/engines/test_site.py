"""A secret goes where it is bound to, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import TargetRefused
from engines.site import Secret, Site, bearer_token
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


def test_a_secret_never_shows_in_a_rendering() -> None:
    assert "s3cret" not in repr(SITE)
    assert "s3cret" not in repr(SITE.secrets["BOUND"])
