"""The application: settings in, routes on, everything refused as a problem."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry, disable_created_metrics

from services.api import errors
from services.api.deps import known_parameters
from services.api.exporter import StoreCollector
from services.api.guard import BodyLimit, Guard
from services.api.keyring import Keyring
from services.api.openapi import install_openapi
from services.api.probe import MOST_PROBES
from services.api.routes import compare, engines, health, jobs, references, runs, targets, workloads
from services.domain.errors import Unavailable
from services.settings import Settings
from services.store.database import close, open_database
from services.telemetry.metrics import HttpMetrics
from services.telemetry.traces import open_traces

TAGS = [
    {"name": "jobs", "description": "Ask for runs, follow and cancel them."},
    {"name": "runs", "description": "The history: one run, many, their requests."},
    {"name": "targets", "description": "Running endpoints by name."},
    {"name": "catalogue", "description": "What can be asked for, and what others have published."},
    {"name": "service", "description": "Is it there, and how does it do."},
]


def create_app(settings: Settings) -> FastAPI:
    """The service's API. The database is opened when the server starts, and must be migrated before."""
    # When each counter was made is of no use to anybody, and doubles the page.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=False)
    keyring = Keyring(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = open_database(settings.database_url.get_secret_value(), timeout_s=settings.database_timeout_s)
        app.state.database = keyring.database = database
        app.state.traces = traces = open_traces("api")
        with suppress(Unavailable):
            await keyring.look()
        has_retention = settings.retention_days is not None
        collector = StoreCollector(database, settings.metrics_label_sets, has_retention=has_retention)
        registry.register(collector)
        # Every request is held against the document; the first must not wait for it.
        app.openapi()
        try:
            yield
        finally:
            registry.unregister(collector)
            close(database)
            if traces is not None:
                traces.close()

    app = FastAPI(
        title="enginebench",
        version=version("enginebench"),
        lifespan=lifespan,
        openapi_tags=TAGS,
        redirect_slashes=False,
        redoc_url=None,
        dependencies=[Depends(known_parameters)],
    )
    app.state.settings = settings
    app.state.traces = None
    app.state.registry = registry
    app.state.probes = CapacityLimiter(MOST_PROBES)
    # Whoever serves it says when streams must end by themselves.
    app.state.is_ending = lambda: False
    for routes in (jobs, runs, targets, workloads, engines, references, compare, health):
        app.include_router(routes.router)
    errors.install(app)
    install_openapi(app, lambda: keyring.wants_keys)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, most_bytes=settings.max_body_bytes)
    app.add_middleware(Guard, settings=settings, keyring=keyring)
    app.add_middleware(HttpMetrics, registry=registry)
    return app
