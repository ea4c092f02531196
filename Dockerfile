FROM python:3.12-slim AS build

COPY deploy/requirements.txt /src/deploy/
# Without pip: the application needs none. Wheels only, so that no compiler is needed either.
RUN python -m venv --without-pip /opt/reconciler \
    && pip --python /opt/reconciler/bin/python install --no-cache-dir --no-compile --only-binary :all: \
        --requirement /src/deploy/requirements.txt

COPY pyproject.toml README.md /src/
COPY reconciler /src/reconciler
COPY state /src/state
COPY workers /src/workers
RUN pip --python /opt/reconciler/bin/python install --no-cache-dir --no-compile --no-deps /src \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/reconciler/lib


FROM python:3.12-slim

LABEL org.opencontainers.image.title="queue-reconciler" \
    org.opencontainers.image.description="GitOps for RabbitMQ and the workers behind it: one queues.yaml, one daemon."

# The daemon reaps what it starts; tini also what workers leave behind, and it hands signals on. git and ssh are for
# RECONCILER_GIT and RECONCILER_GIT_URL.
# Debian keeps only the newest version of a package, so a pinned one would soon not build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git openssh-client tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 1000 reconciler \
    && useradd --uid 1000 --gid reconciler --no-create-home --home-dir /var/lib/reconciler \
        --shell /usr/sbin/nologin --no-log-init reconciler \
    && install --directory --owner reconciler --group reconciler /config /config/workers \
    && install --directory --owner reconciler --group reconciler --mode 0700 /var/lib/reconciler

COPY --from=build /opt/reconciler /opt/reconciler
COPY deploy/prepare.sh /usr/local/lib/reconciler/
# The sample, for whoever starts the image with nothing mounted; prepare.sh copies it into an empty folder.
COPY --chown=1000:1000 queues.yaml /config/
COPY --chown=1000:1000 workers/echo.py /config/workers/
COPY --chown=1000:1000 schema /config/schema

ENV PATH=/opt/reconciler/bin:$PATH \
    RECONCILER_FILE=/config/queues.yaml \
    RECONCILER_STATE=/var/lib/reconciler \
    RECONCILER_HOST=0.0.0.0

# The base image leaves the standard library uncompiled, and the user may not write there: without this every worker
# would compile it again at its start.
RUN python -c 'import reconciler.daemon, workers.runtime.main, http.client'

# Keeps __pycache__ out of the mounted folder.
ENV PYTHONDONTWRITEBYTECODE=1

USER 1000:1000
WORKDIR /config
VOLUME ["/var/lib/reconciler"]
EXPOSE 5000
STOPSIGNAL SIGTERM

# http.client, because urllib would go through a proxy that is in the environment for the workers' sake.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 5000, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["tini", "--", "reconciler"]
CMD ["run"]
