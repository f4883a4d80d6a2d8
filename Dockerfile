# One image for migrate, api, worker, models and the simulated engines: the lock decides what is in it.
# --build-arg LOCK=requirements-otel.lock: with OpenTelemetry too, for traces.
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Without pip of its own: nothing is installed in the image that runs.
RUN python -m venv --without-pip /venv
ARG LOCK=requirements.lock
COPY ${LOCK} ./
RUN pip --python /venv/bin/python install --no-compile --require-hashes -r ${LOCK}
COPY pyproject.toml README.md LICENSE ./
COPY engines engines
COPY bench_runner bench_runner
COPY services services
COPY migrations migrations
RUN pip --python /venv/bin/python install --no-compile --no-deps --no-build-isolation . \
 && pip --python /venv/bin/python uninstall -y hatchling editables pathspec pluggy trove-classifiers \
 # What rich colours code and sets Markdown with, of which nothing here shows any, and the packages' own tests: 13 MB.
 && pip --python /venv/bin/python uninstall -y pygments markdown-it-py mdurl \
 && find /venv/lib -type d \( -name tests -o -name testing \) -prune -exec rm -r {} + \
 # The root is read-only where it runs, so bytecode comes along, named by hash and not by a stamp of this build.
 && python -m compileall -q --invalidation-mode unchecked-hash /venv/lib

FROM python:3.12.12-slim-bookworm
RUN groupadd --gid 10001 enginebench && useradd --uid 10001 --gid 10001 --create-home enginebench \
 && install -d -o enginebench -g enginebench /data /models
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 ENGINEBENCH_STATE_DIR=/data
USER 10001:10001
WORKDIR /data
# Asks the API where there is one; a worker, a migration and the models' fetcher have no port. Compose has its own checks.
HEALTHCHECK --interval=5s --timeout=4s --retries=12 \
  CMD ["python", "-c", "import urllib.request; words = open('/proc/1/cmdline').read().split('\\0'); 'serve' in words and '--worker-only' not in words and urllib.request.urlopen('http://127.0.0.1:8700/readyz', timeout=3)"]
ENTRYPOINT ["enginebench"]
CMD ["serve"]
