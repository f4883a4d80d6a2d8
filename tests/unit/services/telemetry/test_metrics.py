"""What is counted of every request, whoever answers it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from services.telemetry.metrics import HttpMetrics


def counted(sent: tuple[Message, ...], error: BaseException | None) -> dict[str, float]:
    """Status -> requests, after one request whose application sends these messages and then breaks."""
    registry = CollectorRegistry()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        if error is not None:
            raise error

    async def ignore(message: Message) -> None:
        pass

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    app = HttpMetrics(application, registry)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    if error is None:
        asyncio.run(app(scope, nothing, ignore))
    else:
        with pytest.raises(type(error)):
            asyncio.run(app(scope, nothing, ignore))
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {s.labels["status"]: s.value for s in samples if s.name == "enginebench_http_requests_total"}


HEAD: Message = {"type": "http.response.start", "status": 200, "headers": []}


def test_the_status_that_was_sent_is_counted() -> None:
    assert counted((HEAD,), None) == {"200": 1.0}


def test_a_failure_without_an_answer_is_a_500_for_it_is_written_outside() -> None:
    assert counted((), ValueError()) == {"500": 1.0}


def test_a_failure_in_the_middle_of_an_answer_keeps_its_status() -> None:
    assert counted((HEAD,), ValueError()) == {"200": 1.0}


def test_a_client_that_left_before_an_answer_has_no_status() -> None:
    assert counted((), None) == {"none": 1.0}
