"""How this installation runs: read once from `ENGINEBENCH_*` variables. What changes a number is never in here."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from services.domain.errors import BadInput, Problem

#: Comma-separated in the environment.
Listed = Annotated[tuple[SecretStr, ...], NoDecode]


def _default_worker() -> str:
    return f"{socket.gethostname()[:80]}-{os.getpid()}"


class Settings(BaseSettings):
    """One field a variable: `database_url` is `ENGINEBENCH_DATABASE_URL`."""

    model_config = SettingsConfigDict(env_prefix="ENGINEBENCH_", frozen=True, extra="ignore", env_ignore_empty=True)

    #: `sqlite:///path` (embedded, the default) or `postgresql://user:password@host:5432/name`
    database_url: Annotated[SecretStr, Field(min_length=1)] = SecretStr("sqlite:///enginebench-data/enginebench.sqlite")
    #: longest wait for one answer of Postgres, s: the API says then that it is away. A worker waits four times as long
    database_timeout_s: Annotated[float, Field(ge=1, le=3600)] = 15.0
    #: what the worker keeps between lives: results the database has not taken yet, engines it launched. One worker each
    state_dir: Path = Path("enginebench-data/worker")

    #: address the API listens on
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    #: port the API listens on; 0 takes a free one
    port: Annotated[int, Field(ge=0, le=65535)] = 8700
    #: keys that may do everything with the API, comma-separated; none, and none in the database either: open, and then
    #: only on loopback
    api_keys: Listed = ()
    #: key that may only read `/metrics`, for Prometheus
    metrics_key: SecretStr | None = None
    #: label sets of results on `/metrics`, about 25 lines each; those that ran last are shown
    metrics_label_sets: Annotated[int, Field(ge=1, le=10_000)] = 500
    #: listen beyond loopback without keys all the same
    allow_unauthenticated_public: bool = False
    #: largest request body
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024

    #: jobs may start engines on the worker's host, with arguments of their own; off: attached targets only
    allow_launch: bool = False
    #: the Docker Engine whose containers targets may name, `unix:///path` or `tcp://host:port`; none: no containers
    docker_url: Annotated[str, Field(pattern=r"^(unix:///|tcp://).+")] | None = None
    #: a tcp:// Docker Engine is this host's own, behind a proxy: the cards of its containers are those of this host
    docker_is_local: bool = False
    #: names of the containers that may be started, comma-separated
    containers: Annotated[tuple[str, ...], NoDecode] = ()
    #: datasets and tokenizers that jobs name are read from below this folder only; none: jobs name no files
    dataset_dir: Path | None = None
    #: private networks that targets may be in, comma-separated, such as `10.20.0.0/16,192.168.1.0/24`
    allow_private_networks: Annotated[tuple[str, ...], NoDecode] = ()
    #: targets may be on the worker's own host
    allow_loopback: bool = True
    #: secrets that targets may name in `api_key_env`: JSON object from variable to the one origin it may be sent to,
    #: such as `{"VLLM_KEY": "https://gpu1.example:8000"}`
    secrets: dict[str, str] = Field(default_factory=dict)

    #: name of this worker in rows and metrics
    worker_id: Annotated[str, Field(min_length=1, max_length=120)] = Field(default_factory=_default_worker)
    #: a worker that is silent for so long loses its run
    lease_s: Annotated[float, Field(ge=0.5, le=3600)] = 30.0
    #: wait between two looks at an empty queue
    poll_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    #: how long a run under way may go on after SIGTERM before it is given back
    drain_s: Annotated[float, Field(ge=0, le=86_400)] = 20.0

    #: request records of runs that ended longer ago are let go of, results never; none: all are kept for ever
    retention_days: Annotated[float, Field(gt=0, le=100_000)] | None = None

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("allow_private_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks

    @field_validator("api_keys", "allow_private_networks", "containers", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("secrets")
    @classmethod
    def _origins(cls, secrets: dict[str, str]) -> dict[str, str]:
        for name, origin in secrets.items():
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{name} must name the origin it may be sent to, such as https://gpu1.example:8000")
        return secrets

    @property
    def is_loopback(self) -> bool:
        """The API can be reached from this host only."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def secret_values(self) -> dict[str, str]:
        """Values of the listed secrets that are set, by name."""
        return {name: os.environ[name] for name in self.secrets if os.environ.get(name)}

    def known_secrets(self) -> set[str]:
        """Values that no line may show: keys, listed secrets, the database's password, the hub's token."""
        keys = [*self.api_keys, *([self.metrics_key] if self.metrics_key else [])]
        password = urlsplit(self.database_url.get_secret_value()).password or ""
        found = {key.get_secret_value() for key in keys} | {*self.secret_values().values()}
        return (found | {password, unquote(password), os.environ.get("HF_TOKEN", "")}) - {""}


def variable_of(field: str) -> str:
    """The variable that a setting is read from."""
    return field if field.startswith("ENGINEBENCH_") else f"ENGINEBENCH_{field.upper()}"


def check_state_dir(folder: Path) -> None:
    """Makes the worker's folder.

    Raises:
        BadInput: it cannot be made, or not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            Problem("state_dir", f"{folder} cannot be written: {error.strerror}", "name a folder that may be written")
        ) from None


def read_settings(**given: Any) -> Settings:
    """Settings from the environment, `given` ones over them.

    Raises:
        BadInput: a variable cannot be read; the problem names it.
    """
    try:
        return Settings(**given)
    except SettingsError as error:
        raise BadInput(
            Problem("ENGINEBENCH_SECRETS", str(error.__cause__ or error), "write it as a JSON object")
        ) from None
    except ValidationError as error:
        raise BadInput(
            *(
                Problem(
                    variable_of(str(fault["loc"][0]) if fault["loc"] else "host"),
                    fault["msg"].removeprefix("Value error, "),
                    "correct the variable, or leave it out for the default",
                )
                for fault in error.errors()
            )
        ) from None
