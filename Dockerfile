# One image; the command says what it is: web, worker, beat, db upgrade, sandbox.
FROM python:3.13.9-slim-trixie@sha256:326df678c20c78d465db501563f3492d17c42a4afe33a1f2bf5406a1d56b0e86 AS build
WORKDIR /src
RUN python -m venv /opt/onelane
COPY requirements.lock ./
RUN /opt/onelane/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY billing billing
COPY app app
COPY worker worker
COPY sandbox sandbox
COPY onelane onelane
RUN /opt/onelane/bin/pip install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM python:3.13.9-slim-trixie@sha256:326df678c20c78d465db501563f3492d17c42a4afe33a1f2bf5406a1d56b0e86
RUN groupadd --system --gid 10001 onelane \
    && useradd --system --uid 10001 --gid onelane --home-dir /srv/onelane --shell /usr/sbin/nologin onelane \
    && mkdir -p /srv/onelane/var /srv/onelane/metrics \
    && chown -R onelane:onelane /srv/onelane/var /srv/onelane/metrics
COPY --from=build /opt/onelane /opt/onelane
WORKDIR /srv/onelane
COPY catalog.toml ./
ENV PATH=/opt/onelane/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BIND=0.0.0.0 \
    PORT=8000
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# For the web; the compose file gives workers and beat their own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os; from http.client import HTTPConnection as C; c = C('127.0.0.1', os.environ['PORT'], timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["onelane"]
CMD ["web"]
