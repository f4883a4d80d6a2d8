"""A stored target: a TargetSpec with a name, and what it occupies while a run drives it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from engines.address import Lookup, spellings
from engines.spec import Attached, Container, Launched, TargetSpec
from services.domain.text import refuse_unstorable

TargetName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="letters, digits, dot, dash and underscore; begins with a letter or digit",
        examples=["vllm-mistral-7b"],
    ),
]

TARGET_EXAMPLE: dict[str, Any] = {
    "name": "vllm-mistral-7b",
    "engine": "vllm",
    "model": "mistralai/Mistral-7B-Instruct-v0.2",
    "reach": {"kind": "attached", "url": "http://127.0.0.1:8000"},
    "hardware": "A100-80GB",
    "precision": "BF16",
}


class NamedTarget(TargetSpec):
    """A target as a person writes it: what a TargetSpec says, and the name that jobs use."""

    model_config = ConfigDict(json_schema_extra={"examples": [TARGET_EXAMPLE]})

    name: TargetName

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, value: object) -> object:
        return refuse_unstorable(value)

    @property
    def spec(self) -> TargetSpec:
        """The target without its name: what goes into a RunSpec."""
        return TargetSpec.model_validate(self.model_dump(exclude={"name"}))


def occupied_resources(spec: TargetSpec, lookup: Lookup | None = None) -> tuple[str, ...]:
    """What a run on this target holds for itself, sorted, so that two runs never share one.

    An attached server is always held by its address, whatever name it was stored under and however its URL spells it;
    one that is started for the run holds, without stated resources, the first GPUs of its host, for nobody said which
    are free, and a container its name and address too.

    Args:
        spec: the target.
        lookup: resolves the URL's host; `None`: names are not resolved.
    """
    match spec.reach:
        case Attached(url=url):
            return tuple(sorted({*_addresses(url, lookup), *spec.resources}))
        case Container(container=name, url=url):
            return tuple(sorted({f"container:{name}", *_addresses(url, lookup), *spec.cards}))
        case Launched():
            return tuple(sorted(spec.cards))


def _addresses(url: str, lookup: Lookup | None) -> set[str]:
    """Every way in which another target may name the server at this URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return {f"server:{known}" for known in spellings(parts.hostname or "", port, lookup)}
