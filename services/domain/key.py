"""API keys: what one may do, how it is written, and what of it is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a key may do; each may all that the one before it may."""

    #: look at everything that is not a secret
    READ = "read"
    #: and send load: jobs, cancelling them, targets, probes
    RUN = "run"
    #: and say what counts, and take away
    ADMIN = "admin"

    def covers(self, wanted: Role) -> bool:
        """It is enough for what wants that role."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose key a request came with."""

    #: `None`: one of the environment's, which have no id
    id: str | None
    name: str
    role: Role


#: A prefix that says whose it is wherever it turns up, the public id, and 256 bits of chance.
_FORM = re.compile(r"ebk_(?P<id>[0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def draw_key() -> tuple[str, str]:
    """A new key: its public id, and its text, which nothing keeps."""
    key_id = secrets.token_hex(6)
    return key_id, f"ebk_{key_id}_{secrets.token_urlsafe(32)}"


def id_in(text: str) -> str | None:
    """The id that a key's text carries; `None`: it is no text of ours."""
    found = _FORM.fullmatch(text)
    return found["id"] if found else None


def digest_of(text: str) -> str:
    """What is kept of a key: SHA-256, 64 hex digits.

    A fast hash, for nobody guesses 256 random bits, whatever one guess costs, and every request pays for it. A slow
    one is for passwords, of which there are few that people think of.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def is_key(text: str, digest: str) -> bool:
    """The text is the key of that digest. Takes as long for a near miss as for a far one."""
    return hmac.compare_digest(digest_of(text), digest)
