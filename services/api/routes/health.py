"""Is it there, and how does it do."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest

from services.api.deps import Store
from services.api.schemas import Health, Readiness
from services.domain.errors import Unavailable
from services.store.schema import schema_fault

router = APIRouter(tags=["service"])

#: The text format that every Prometheus reads.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers, whatever its threads wait for."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "The service cannot do its work."}})
def readyz(store: Store) -> Response:
    """The database answers, and holds the schema this version knows."""
    checks = {"database": "ok", "schema": "ok"}
    try:
        if fault := schema_fault(store):
            checks["schema"] = fault
    except Unavailable as error:
        checks = {"database": str(error)}
    ready = all(found == "ok" for found in checks.values())
    body = Readiness(status="ready" if ready else "not ready", checks=checks)
    return JSONResponse(body.model_dump(), 200 if ready else 503, {} if ready else {"Retry-After": "5"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text."}},
)
def metrics(request: Request) -> Response:
    """The newest results, the queue and this API's own requests, for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=METRICS_TYPE)
