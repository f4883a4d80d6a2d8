"""Is it there, and how does it do."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest

from services.api.deps import Store
from services.api.schemas import Health, Readiness
from services.domain.errors import Unavailable
from services.store.database import ping

router = APIRouter(tags=["service"])

#: The text format that every Prometheus reads.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz")
def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "The service cannot do its work."}})
def readyz(store: Store) -> Response:
    """The database answers, and holds the schema this version knows."""
    try:
        ping(store)
    except Unavailable as error:
        body = Readiness(status="not ready", checks={"database": str(error)})
        return JSONResponse(body.model_dump(), 503, {"Retry-After": "5"})
    return JSONResponse(Readiness(status="ready", checks={"database": "ok"}).model_dump())


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text."}},
)
def metrics(request: Request) -> Response:
    """The newest results, the queue and this API's own requests, for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=METRICS_TYPE)
