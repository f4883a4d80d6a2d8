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
    """A bearer token of this service, and whom it may be shown to."""

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


def bound_secrets(environment: Mapping[str, str]) -> dict[str, Secret]:
    """The secrets a service offers: every variable with a companion `NAME_ORIGIN` that says where it may be sent."""
    ending = "_ORIGIN"
    return {
        name.removesuffix(ending): Secret(environment[name.removesuffix(ending)], origin)
        for name, origin in environment.items()
        if name.endswith(ending) and origin and environment.get(name.removesuffix(ending))
    }


def bearer_token(reach: Attached, site: Site) -> str | None:
    """The bearer token of an attached target, if the spec names one and it may be shown to that origin."""
    name = reach.api_key_env
    if name is None:
        return None
    secret = site.secrets.get(name)
    if secret is None or not secret.value:
        raise TargetRefused(
            f"there is no secret {name!r} here: set the variable {name}, and for the service {name}_ORIGIN to the"
            " origin it may be sent to",
            field="reach.api_key_env",
        )
    if secret.origin is not None and _origin_of(secret.origin) != _origin_of(reach.url):
        raise TargetRefused(
            f"the secret {name!r} is bound to another origin than {reach.url}; mend reach.url, or {name}_ORIGIN",
            field="reach.api_key_env",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", secret.value):
        raise TargetRefused(f"the secret {name!r} has a space or a sign that no token has", field="reach.api_key_env")
    return secret.value


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, as they decide who is spoken to."""
    parts = urlsplit(url)
    with suppress(ValueError):
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, None, None
