"""Which addresses may be benchmarked, and that the one that was checked is the one that is used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engines.address import AddressPolicy, carries_key, check_headers, resolve
from engines.contract import FailureKind
from engines.errors import TargetRefused, TargetUnavailable

OPEN = AddressPolicy(allow_private=("10.0.0.0/8", "fc00::/7", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"))


def answering(*addresses: str) -> Callable[[str, int], list[str]]:
    return lambda _host, _port: list(addresses)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "2001:db8::1",
        "fec0::1",
    ],
)
def test_some_addresses_are_refused_whatever_the_settings_say(address: str) -> None:
    assert OPEN.refusal(address) is not None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_allowed_unless_told_otherwise(address: str) -> None:
    assert AddressPolicy().refusal(address) is None
    assert AddressPolicy(allow_loopback=False).refusal(address) is not None


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "172.16.0.9", "192.168.1.1", "100.64.3.3", "fd12::9", "::ffff:10.1.2.3"]
)
def test_private_ranges_are_allowed_only_as_configured(address: str) -> None:
    assert "allow its network" in (AddressPolicy().refusal(address) or "")
    assert OPEN.refusal(address) is None


def test_a_configured_network_allows_no_other() -> None:
    policy = AddressPolicy(allow_private=("10.20.0.0/16",))
    assert policy.refusal("10.20.1.1") is None
    assert policy.refusal("10.21.1.1") is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert AddressPolicy().refusal(address) is None


def test_a_network_that_is_none_is_an_error_that_says_how_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"'10.20.0.1/16'.*write it like 10.20.0.0/16"):
        AddressPolicy(allow_private=("10.20.0.1/16",))


def test_the_origin_pins_an_ipv4_address_where_there_is_one() -> None:
    origin = resolve(
        "http://engines.example:8000/base/",
        AddressPolicy(),
        {"x-team": "a"},
        lookup=answering("2606:4700::1", "8.8.8.8"),
    )
    assert (origin.address, origin.host, origin.port, origin.base_path) == ("8.8.8.8", "engines.example", 8000, "/base")
    assert origin.headers == {"x-team": "a"}
    assert origin.host_header == "engines.example:8000"


def test_an_ipv6_only_host_is_pinned_too() -> None:
    assert resolve("https://six.example", AddressPolicy(), lookup=answering("2606:4700::1")).address == "2606:4700::1"


def test_one_forbidden_address_among_several_refuses_the_host() -> None:
    with pytest.raises(TargetRefused, match=r"169\.254\.169\.254") as refused:
        resolve("http://both.example", AddressPolicy(), lookup=answering("8.8.8.8", "169.254.169.254"))
    assert refused.value.field == "reach.url"


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
def test_numbers_that_mean_an_address_are_judged_as_that_address(host: str) -> None:
    with pytest.raises(TargetRefused, match="loopback"):
        resolve(f"http://{host}:8000", AddressPolicy(allow_loopback=False))


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("ftp://h", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("http://", "http:// or https://"),
        ("http://u:p@h", "credentials"),
        ("http://u@h", "credentials"),
        ("http://h?x=1", "query"),
        ("http://h#x", "query or fragment"),
        ("http://h:99999", "port"),
        ("http://h:0", "port"),
        ("http://h/a b", "space"),
        ("http://h/\r\nx: y", "space"),
        ("http://hé.example", "ASCII"),
    ],
)
def test_a_url_that_cannot_be_a_base_url_is_refused_with_the_mend(url: str, part: str) -> None:
    with pytest.raises(TargetRefused, match=part) as refused:
        resolve(url, OPEN, lookup=answering("8.8.8.8"))
    assert refused.value.field == "reach.url"


def test_a_host_without_an_address_is_unavailable_not_refused() -> None:
    def nobody(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(TargetUnavailable, match=r"no address.*mend reach.url") as missing:
        resolve("http://nobody.example", AddressPolicy(), lookup=nobody)
    assert missing.value.failure is not None
    assert missing.value.failure.kind is FailureKind.CONNECT


def test_a_label_too_long_for_a_host_name_is_unavailable_too() -> None:
    with pytest.raises(TargetUnavailable, match="no address"):
        resolve(f"http://{'a' * 70}.example", AddressPolicy())


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({"authorization": "Bearer x"}, "api_key_env"),
        ({"Cookie": "a=b"}, "api_key_env"),
        ({"Host": "other"}, "leave it out"),
        ({"Content-Length": "3"}, "leave it out"),
        ({"x-a": "1\r\nx-b: 2"}, "control"),
        ({"x a": "1"}, "not a header name"),
        ({"x-a": "é"}, "non-ASCII"),
    ],
)
def test_headers_that_frame_or_carry_credentials_are_refused(headers: dict[str, str], part: str) -> None:
    with pytest.raises(TargetRefused, match=part) as refused:
        check_headers(headers)
    assert refused.value.field == "headers"


def test_of_several_addresses_the_one_that_somebody_listens_at_is_pinned() -> None:
    """A server on ::1 is "localhost" too, and is not to be called absent because the name has 127.0.0.1 first."""
    names = answering("::1", "127.0.0.1")
    asked: list[tuple[str, int]] = []

    def listens(address: str, port: int) -> bool:
        asked.append((address, port))
        return address == "::1"

    origin = resolve("http://localhost:8000", AddressPolicy(), lookup=names, listens=listens)
    assert (origin.host, origin.address) == ("localhost", "::1")
    assert asked == [("127.0.0.1", 8000), ("::1", 8000)]


def test_where_nobody_listens_or_is_asked_the_first_is_pinned_and_a_single_one_is_not_asked() -> None:
    asked: list[str] = []

    def nobody(address: str, _port: int) -> bool:
        asked.append(address)
        return False

    several = answering("2606:4700::1", "8.8.8.8", "8.8.4.4", "1.1.1.1", "2606:4700::2", "2606:4700::3")
    assert resolve("http://h", OPEN, lookup=several, listens=nobody).address == "8.8.8.8"
    assert asked == ["8.8.8.8", "8.8.4.4", "2606:4700::1", "2606:4700::2"]
    asked.clear()
    assert resolve("http://h", OPEN, lookup=answering("8.8.8.8"), listens=nobody).address == "8.8.8.8"
    assert asked == []


def test_every_address_is_judged_before_any_is_asked() -> None:
    def listens(address: str, port: int) -> bool:
        raise AssertionError(f"{address}:{port} was asked")

    with pytest.raises(TargetRefused, match="private range"):
        resolve("http://h", AddressPolicy(), lookup=answering("8.8.8.8", "10.0.0.1"), listens=listens)


@pytest.mark.parametrize(("name", "is_one"), [("authorization", True), ("X-Api-Key", True), ("x-team", False)])
def test_whether_a_key_goes_along(name: str, is_one: bool) -> None:
    assert carries_key({name: "v", "accept": "*/*"}) is is_one


def test_other_headers_pass() -> None:
    check_headers({"x-team": "a b\tc", "accept-language": "en"})


@pytest.mark.parametrize("value", [" a", "a ", "\ta", " "])
def test_a_space_around_a_value_is_ours_to_refuse(value: str) -> None:
    """On the wire it would be no part of the value, and some clients refuse to send it at all."""
    with pytest.raises(TargetRefused, match="X-A begins or ends with a space") as refused:
        check_headers({"X-A": value})
    assert refused.value.field == "headers"
