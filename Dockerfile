FROM python:3.12-slim

RUN useradd --no-log-init --uid 10001 --home-dir /var/lib/streamflow --shell /usr/sbin/nologin streamflow \
 && install --directory --owner streamflow --group streamflow --mode 0750 /var/lib/streamflow
WORKDIR /app

# The extras of pyproject.toml to install.
ARG EXTRAS="[parquet]"
# The dependencies, in a layer that is rebuilt only when these files change. pip installs them only with a package, so
# that has its version and nothing else here. Its install is editable: the code that is copied to /app/loader below
# becomes the package.
COPY pyproject.toml setup.py constraints.txt ./
COPY loader/__init__.py loader/
RUN mkdir dbt_project profiles seeds_data \
 && touch README.md \
 && pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore -c constraints.txt -e ".${EXTRAS}"

COPY profiles profiles
COPY dbt_project dbt_project
COPY loader loader
COPY orchestration orchestration
# The last step that downloads anything. Root owns its files: the program can read them, but not change them.
RUN export DBT_SEND_ANONYMOUS_USAGE_STATS=false DBT_LOG_PATH=/tmp/dbt DBT_TARGET_PATH=/tmp/dbt \
 && streamflow setup \
 && streamflow models \
 && python -m compileall -q loader orchestration \
 && chmod -R a+rX . \
 && rm -rf /tmp/dbt

ENV DBT_SEND_ANONYMOUS_USAGE_STATS=false \
    PYTHONDONTWRITEBYTECODE=1 \
    STREAMFLOW_HOME=/var/lib/streamflow \
    DBT_TARGET_PATH=/var/lib/streamflow/target \
    DBT_LOG_PATH=/var/lib/streamflow/logs
USER 10001:10001
ENTRYPOINT ["streamflow"]
CMD ["--help"]
