# One image for migrate, api, worker and the simulated engines: the lock decides what is in it.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY engines engines
COPY bench_runner bench_runner
COPY services services
COPY migrations migrations
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --create-home enginebench && install -d -o enginebench /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 ENGINEBENCH_STATE_DIR=/data
USER enginebench
WORKDIR /data
ENTRYPOINT ["enginebench"]
CMD ["serve"]
