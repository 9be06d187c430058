# One image for all processes; docker-compose.yml says which of them a container runs.
FROM python:3.12-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY rosetta_dagster rosetta_dagster
COPY migrations migrations
COPY deploy deploy
COPY definitions.py workspace.yaml ./
RUN python -m venv /opt/venv \
    && PIP_CONSTRAINT=constraints.txt /opt/venv/bin/pip install --no-cache-dir '.[metrics,postgres,snowflake,webserver]'

FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates tini && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /opt/rosetta rosetta \
    && install --directory --owner rosetta /opt/rosetta/storage
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH DAGSTER_HOME=/opt/rosetta PYTHONUNBUFFERED=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /opt/rosetta
COPY --chown=rosetta deploy/dagster.yaml definitions.py workspace.yaml workspace.compose.yaml ./
COPY --chown=rosetta LICENSE NOTICE ./
USER rosetta
# With -g a stop reaches the run workers, too: they close their streams before the container ends.
ENTRYPOINT ["tini", "-g", "--"]
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--python-file", "definitions.py", "--location-name", "rosetta"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["dagster", "api", "grpc-health-check", "--port", "4000"]
