"""What a person writes about a server: which engine, which model, where it is or how it is started."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from engines.contract import Endpoint

#: Names of headers that keys are sent in: api-key, x-api-key, ocp-apim-subscription-key, authorization and their like.
_KEY_HEADER = re.compile(r"(.+-)?(authorization|auth|(api)?key|token)", re.IGNORECASE)

Name = Annotated[str, Field(min_length=1, max_length=200)]


def _plain_number(value: object) -> object:
    if isinstance(value, (bool, str)):
        found = "text" if isinstance(value, str) else str(value).lower()
        raise PydanticCustomError("number_type", "must be a number, not {found}", {"found": found})
    return value


#: Stands behind every number that a person writes: true is not 1, and "3" is a slip, not a 3.
PLAIN = BeforeValidator(_plain_number)


class Spec(BaseModel):
    """Base of everything a person writes: frozen, and a field we do not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _base_url(url: str) -> str:
    """A base URL without its trailing slash; raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host, such as http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials; name the variable that holds the token in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("must be a base URL without query or fragment")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number from 0 to 65535") from None
    return url.rstrip("/")


class Attached(Spec):
    """A server that somebody else runs."""

    kind: Literal["attached"] = "attached"
    url: Annotated[str, Field(max_length=2000, examples=["http://127.0.0.1:8000"])]
    #: name of the secret that holds the key; the value itself never enters a spec
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)] | None = None
    #: header that the key is sent in as it is, such as "api-key"; `None`: as `Authorization: Bearer KEY`
    api_key_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=100)] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )

    @field_validator("url")
    @classmethod
    def _is_a_base_url(cls, url: str) -> str:
        return _base_url(url)

    @field_validator("api_key_header")
    @classmethod
    def _is_for_keys(cls, header: str | None) -> str | None:
        if header is not None and not _KEY_HEADER.fullmatch(header):
            raise ValueError("must be a header for keys, such as api-key, x-api-key or authorization")
        return header

    @model_validator(mode="after")
    def _has_a_key_for_its_header(self) -> Attached:
        if self.api_key_header is not None and self.api_key_env is None:
            raise ValueError("api_key_header names the header of a key: name the key's secret in api_key_env")
        return self


class Container(Spec):
    """A server in a container that is there already: the worker starts it for the run, and stops it after."""

    kind: Literal["container"] = "container"
    #: its name, as the Docker Engine knows it
    container: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", max_length=128)]
    #: where it listens once it runs
    url: Annotated[str, Field(max_length=2000, examples=["http://vllm-qwen2.5-7b:8000"])]
    #: longest wait for the first real generation
    ready_timeout_s: Annotated[float, Field(gt=0, le=7200), PLAIN] = 1800.0
    #: from SIGTERM to SIGKILL
    stop_timeout_s: Annotated[float, Field(ge=0, le=600), PLAIN] = 30.0

    @field_validator("url")
    @classmethod
    def _is_a_base_url(cls, url: str) -> str:
        return _base_url(url)


class Launched(Spec):
    """A server that the worker starts as a local process for the run."""

    kind: Literal["process"] = "process"
    #: a model folder or a name the engine resolves itself
    model_path: Annotated[str, Field(min_length=1, max_length=1000)]
    #: further arguments of the engine's own command line
    args: tuple[Annotated[str, Field(max_length=1000)], ...] = ()
    #: further environment variables; never secrets
    env: dict[str, str] = Field(default_factory=dict)
    #: port to listen on; 0 takes a free one
    port: Annotated[int, Field(ge=0, le=65535), PLAIN] = 0
    #: longest wait for the first real generation
    ready_timeout_s: Annotated[float, Field(gt=0, le=7200), PLAIN] = 900.0


class TargetSpec(Spec):
    """A running endpoint: engine, model, where it is, what it runs on, the resources it occupies."""

    engine: Annotated[Name, Field(examples=["vllm"])]
    #: the model's name as the server knows it
    model: Annotated[Name, Field(examples=["mistralai/Mistral-7B-Instruct-v0.2"])]
    reach: Annotated[Attached | Launched | Container, Field(discriminator="kind")]
    endpoint: Endpoint | None = None
    #: stated hardware, such as "A100-80GB"; `None`: unknown, so no roofline
    hardware: Name | None = None
    gpus: Annotated[int, Field(ge=1, le=1024), PLAIN] = 1
    #: stated precision, such as "BF16"
    precision: Annotated[Name, Field(examples=["BF16"])] | None = None
    #: "as-shipped" or "matched": like is compared with like
    flag_class: Annotated[str, Field(max_length=50)] = "as-shipped"
    #: flags of a server that is attached or in a container, stated by whoever runs it
    flags: tuple[Annotated[str, Field(max_length=1000)], ...] = ()
    #: what it occupies, such as "gpu:0"; empty: the target itself
    resources: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    #: local tokenizer file or folder of the model; `None`: the engine's own /tokenize, else approximate
    tokenizer: Annotated[str, Field(max_length=1000)] | None = None
    #: further request headers; no credentials
    headers: dict[str, str] = Field(default_factory=dict)

    @property
    def cards(self) -> frozenset[str]:
        """What a server that is started for the run occupies: as stated, else the first GPUs of its host."""
        return frozenset(self.resources) or frozenset(f"gpu:{number}" for number in range(self.gpus))


def card_numbers(spec: TargetSpec) -> tuple[int, ...]:
    """The cards that a target states among its resources, as its host's driver counts them; (): it states none."""
    return tuple(sorted(int(name[4:]) for name in set(spec.resources) if re.fullmatch(r"gpu:\d{1,4}", name)))
