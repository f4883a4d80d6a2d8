"""Who may do what: the role that each operation wants, in one place. A test holds it to the API's own document."""

from __future__ import annotations

from starlette.routing import compile_path

from services.domain.key import Role

READ, RUN, ADMIN = Role.READ, Role.RUN, Role.ADMIN

#: operation -> role; `None`: anybody, for a load balancer has no key
OPERATIONS: dict[str, Role | None] = {
    "GET /healthz": None,
    "GET /readyz": None,
    "GET /metrics": READ,
    "GET /v1/compare": READ,
    "GET /v1/engines": READ,
    "GET /v1/jobs": READ,
    "GET /v1/jobs/{job_id}": READ,
    "GET /v1/jobs/{job_id}/curve": READ,
    "GET /v1/jobs/{job_id}/events": READ,
    "GET /v1/references": READ,
    "GET /v1/runs": READ,
    "GET /v1/runs/{run_id}": READ,
    "GET /v1/runs/{run_id}/requests": READ,
    "GET /v1/targets": READ,
    "GET /v1/targets/{name}": READ,
    "GET /v1/workloads": READ,
    "GET /v1/workloads/{name}": READ,
    # Load, or what sends some. A job may bring a target of its own, so keeping one is no more than that.
    "POST /v1/jobs": RUN,
    "POST /v1/jobs/{job_id}/cancel": RUN,
    "POST /v1/runs/{run_id}/cancel": RUN,
    "POST /v1/targets": RUN,
    "POST /v1/targets/{name}/probe": RUN,
    # What counts, and what is there, for everybody else.
    "PATCH /v1/runs/{run_id}": ADMIN,
    "DELETE /v1/targets/{name}": ADMIN,
}

#: Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


#: As the router has them, so that the two never take a path for different ones.
_PATTERNS = [
    (method, compile_path(path)[0], role)
    for (method, _, path), role in ((operation.partition(" "), role) for operation, role in OPERATIONS.items())
]


def role_for(method: str, path: str) -> Role | None:
    """What a request must be allowed; `None`: nothing.

    What is no operation here, such as the document itself, is read with a safe method; whatever else it may be, only
    who may do everything is told about it.
    """
    asked = "GET" if method == "HEAD" else method
    for known, pattern, role in _PATTERNS:
        if known == asked and pattern.match(path):
            return role
    return READ if method in SAFE_METHODS else ADMIN


def is_open(path: str) -> bool:
    """Served to anybody."""
    return OPERATIONS.get(f"GET {path}", READ) is None
