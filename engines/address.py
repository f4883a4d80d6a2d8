"""Which addresses may be benchmarked, and the URL of a target turned into an Origin with its address pinned.

Names are resolved once: a name that answers differently a second later (DNS rebinding) changes nothing for the run.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from engines.contract import Failure, FailureKind, Origin
from engines.errors import TargetRefused, TargetUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Instance metadata services outside the link-local ranges. They hand out credentials, so no setting allows them.
METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "fd00:ec2::254",  # AWS, IPv6
        "fd20:ce::254",  # Google Cloud, IPv6
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud
    )
)

#: Not reachable from the public internet: allowed only where the policy names them.
PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)

#: IPv4 addresses written into IPv6 ones by translators (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

#: Headers that frame the request or carry credentials; the first are ours, the second come from named secrets.
_OWN_HEADERS = frozenset((
    "host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
    "accept-encoding",
))  # fmt: skip
_CREDENTIAL_HEADER = re.compile(r"(.*-)?(authorization|auth|cookie|(api)?key|token|secret|password)\Z", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")

#: (host, port) -> addresses, in the resolver's order
Lookup = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses a target may have. Link-local, metadata, multicast and reserved ones: never."""

    allow_loopback: bool = True
    #: networks in CIDR form out of the private ranges, such as "10.20.0.0/16"
    allow_private: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for network in self.allow_private:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(
                    f"allow_private: {network!r} is not a network ({error}); write it like 10.20.0.0/16"
                ) from None

    def refusal(self, address: str) -> str | None:
        """Why this address may not be benchmarked; `None` where it may."""
        seen = _unwrap(ipaddress.ip_address(address))
        if seen.is_link_local or seen in METADATA_ADDRESSES:
            return "is a link-local or metadata address, which is never benchmarked"
        if seen.is_loopback:
            return None if self.allow_loopback else "is a loopback address, which this service does not allow"
        if seen.is_unspecified or seen.is_multicast or seen == ipaddress.IPv4Address("255.255.255.255"):
            return "is not the address of one server"
        if _in_any(seen, PRIVATE_NETWORKS):
            if _in_any(seen, [ipaddress.ip_network(network) for network in self.allow_private]):
                return None
            return "is in a private range; allow its network in the service's settings to benchmark it"
        if seen.is_reserved or not seen.is_global or (seen.version == 6 and seen.is_site_local):
            return "is in a reserved range"
        return None


def _unwrap(address: Address) -> Address:
    """The IPv4 address an IPv6 one stands for, where it stands for one, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _in_any(address: Address, networks: tuple[Network, ...] | list[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def look_up(host: str, port: int) -> list[str]:
    """Addresses of a host, in the resolver's order, without repeats.

    Raises:
        OSError: the resolver knows no such host.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"not a host name: {error}") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def spellings(host: str, port: int, lookup: Lookup | None) -> frozenset[str]:
    """Every "ADDRESS:PORT" under which this server may be known, so that two ways to write it have one in common.

    Args:
        host: as in a URL: a name, or an address in any spelling.
        port: the server's.
        lookup: resolves a name; `None`, or a name it does not know: the name alone is given.
    """
    name = host.lower().rstrip(".")
    try:
        return frozenset({_spelling(ipaddress.ip_address(name), port)})
    except ValueError:
        pass
    try:
        found = () if lookup is None else lookup(host, port)
    except OSError:
        found = ()
    # A name is held too, for it may answer with another address the next time.
    return frozenset({f"{name}:{port}", *(_spelling(ipaddress.ip_address(address), port) for address in found)})


def _spelling(address: Address, port: int) -> str:
    seen = _unwrap(address)
    if seen.is_loopback:
        seen = ipaddress.IPv4Address("127.0.0.1")
    return f"[{seen}]:{port}" if seen.version == 6 else f"{seen}:{port}"


def takes_connections(address: str, port: int) -> bool:
    """Somebody listens there. Waits for 2 s at most."""
    try:
        socket.create_connection((address, port), timeout=2.0).close()
    except OSError:
        return False
    return True


def resolve(
    url: str,
    policy: AddressPolicy,
    headers: Mapping[str, str] | None = None,
    *,
    lookup: Lookup = look_up,
    listens: Callable[[str, int], bool] | None = None,
) -> Origin:
    """The Origin of a base URL, its address pinned: IPv4 where there is one. Every address must be allowed.

    Args:
        url: http or https, without credentials, query or fragment.
        policy: which addresses may be benchmarked.
        headers: sent with every request.
        lookup: resolves a host; for tests.
        listens: of a host with several addresses, asked which to pin: a server may listen on `::1` and not on
            127.0.0.1, and be "localhost" all the same. `None`, or none of them does: the first.

    Raises:
        TargetRefused: the URL, one of its addresses or a header is not allowed.
        TargetUnavailable: the host has no address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetRefused(f"{parts.scheme or 'no'} scheme: give an http:// or https:// URL", field="reach.url")
    if "@" in parts.netloc:
        raise TargetRefused("the URL carries credentials; name a secret in api_key_env instead", field="reach.url")
    if parts.query or parts.fragment:
        raise TargetRefused("the URL has a query or fragment; give the base URL only", field="reach.url")
    try:
        port = parts.port
    except ValueError:
        raise TargetRefused("the URL's port is not a number from 1 to 65535", field="reach.url") from None
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    if not 0 < port < 65536 or re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
        raise TargetRefused("the URL has a port of 0, a space or a character beyond ASCII", field="reach.url")
    try:
        addresses = lookup(parts.hostname, port)
    except OSError as error:
        message = f"the host {parts.hostname!r} has no address ({error}); mend reach.url or the resolver"
        raise TargetUnavailable(message, field="reach.url", failure=Failure(FailureKind.CONNECT, message)) from None
    for address in addresses:
        refusal = policy.refusal(address)
        if refusal is not None:
            raise TargetRefused(f"{parts.hostname} ({address}) {refusal}", field="reach.url")
    tried = _in_turn(addresses)
    pinned = tried[0]
    if listens is not None and len(tried) > 1:
        pinned = next((address for address in tried if listens(address, port)), pinned)
    return Origin(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        base_path=parts.path.rstrip("/"),
        address=pinned,
        headers=dict(headers or {}),
    )


def _in_turn(addresses: Sequence[str]) -> list[str]:
    """IPv4 first, and at most two of a kind: a host behind many is not knocked at everywhere."""
    kinds = [[address for address in addresses if (":" in address) is is_v6] for is_v6 in (False, True)]
    return [address for kind in kinds for address in kind[:2]]


def carries_key(headers: Mapping[str, str]) -> bool:
    """One of them shows who asks."""
    return any(_CREDENTIAL_HEADER.match(name) for name in headers)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuses headers that would break the request's framing, or carry credentials past the named secrets.

    Raises:
        TargetRefused: names the header and the mend.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.match(name):
            raise TargetRefused(f"{name!r} is not a header name", field="headers")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) or not value.isascii():
            raise TargetRefused(f"the value of header {name} has a control or non-ASCII character", field="headers")
        if value != value.strip():
            raise TargetRefused(f"the value of header {name} begins or ends with a space; take it out", field="headers")
        if _CREDENTIAL_HEADER.match(name):
            mend = "name a secret in api_key_env: a bearer token, or a key as it is in the header of api_key_header"
            raise TargetRefused(f"header {name} carries credentials; {mend}", field="headers")
        if name.lower() in _OWN_HEADERS:
            raise TargetRefused(f"header {name} is set by the request itself; leave it out", field="headers")
