FROM python:3.12-slim
ENV DAGSTER_HOME=/opt/rosetta PYTHONUNBUFFERED=1
WORKDIR /opt/rosetta
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY rosetta_dagster rosetta_dagster
COPY migrations migrations
COPY deploy deploy
COPY definitions.py workspace.yaml workspace.compose.yaml ./
RUN PIP_CONSTRAINT=constraints.txt pip install --no-cache-dir '.[postgres,snowflake,webserver]'
RUN cp deploy/dagster.yaml .
