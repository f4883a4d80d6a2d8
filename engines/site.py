"""Where runs happen: the secrets, rules and folder of one host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from engines.address import AddressPolicy
from engines.errors import TargetRefused
from engines.spec import Attached


@dataclass(frozen=True, slots=True)
class Secret:
    """A key of this service for a target, and whom it may be shown to."""

    value: str = field(repr=False)
    #: the only origin it is sent to, such as "https://engines.example:8443"; `None`: wherever the spec says, for
    #: where the person who names the target is the one who owns the secret (the CLI)
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where runs happen: the secrets, rules and folder of this host."""

    #: where launched engines keep logs and records
    state_dir: Path
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    address_policy: AddressPolicy = field(default_factory=AddressPolicy)
    #: targets may be started as local processes, which runs any program their engine names
    allow_launch: bool = True
    #: the Docker Engine, or a proxy before it: `unix:///path` or `tcp://host:port`; `None`: no containers are started
    docker_url: str | None = None
    #: names of the containers that may be started
    containers: tuple[str, ...] = ()
    #: a `tcp://` Docker Engine is this host's own all the same
    docker_is_local: bool = False

    @property
    def starts_containers_here(self) -> bool:
        """What its Docker Engine starts runs on this host, and may have its cards."""
        return self.docker_is_local or (self.docker_url or "").startswith("unix://")


def bearer_token(reach: Attached, site: Site) -> str | None:
    """The key of an attached target, if the spec names one and it may be shown to that origin."""
    name = reach.api_key_env
    if name is None:
        return None
    secret = site.secrets.get(name)
    if secret is None or not secret.value:
        raise TargetRefused(
            f"there is no secret {name!r} here: set the variable {name}; a service also lists it in"
            " ENGINEBENCH_SECRETS, with the one origin it may be sent to",
            field="reach.api_key_env",
        )
    if secret.origin is not None and _origin_of(secret.origin) != _origin_of(reach.url):
        raise TargetRefused(
            f"the secret {name!r} is bound to another origin than {reach.url}; mend reach.url, or ENGINEBENCH_SECRETS",
            field="reach.api_key_env",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", secret.value):
        raise TargetRefused(f"the secret {name!r} has a space or a sign that no token has", field="reach.api_key_env")
    return secret.value


def key_headers(reach: Attached, key: str | None) -> dict[str, str]:
    """The header that an attached target's key is sent in: its own as it is, else as a bearer token; {} without one."""
    match key, reach.api_key_header:
        case None, _:
            return {}
        case _, None:
            return {"authorization": f"Bearer {key}"}
        case _, header:
            return {header.lower(): key}


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, as they decide who is spoken to."""
    parts = urlsplit(url)
    with suppress(ValueError):
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, None, None
