"""Keys and hosts."""

from __future__ import annotations

import pytest

from services.api.guard import is_loopback_host
from services.api.keyring import bearer_in, equals_any


@pytest.mark.parametrize("header", ["Bearer one", "bearer two", "BEARER  one "])
def test_any_of_the_keys_opens(header: str) -> None:
    assert equals_any(bearer_in(header), ("one", "two"))


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Basic one", "one", "Bearer é"]
)
def test_nothing_else_does(header: str) -> None:
    assert not equals_any(bearer_in(header), ("one", "two"))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:8700"])
def test_names_of_this_host(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::1", "0.0.0.0", "::1"],
)
def test_names_of_others(host: str) -> None:
    assert not is_loopback_host(host)
