# syntax=docker/dockerfile:1
# The application for production: web by default; worker and beat by another command.
# Servers are not in here: DATABASE_URL, REDIS_URL and the secrets come from the environment.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/florin
COPY requirements.txt /tmp/requirements.txt
RUN /opt/florin/bin/pip install --require-virtualenv --no-compile -r /tmp/requirements.txt \
    && /opt/florin/bin/pip uninstall --yes pip setuptools \
    && python -m compileall -q /opt/florin

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 florin \
    && useradd --system --uid 10001 --gid florin --no-create-home --home-dir /app florin
COPY --from=build /opt/florin /opt/florin
ENV PATH="/opt/florin/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLORIN_MODE=production \
    FLORIN_IGNORE_LOCAL_ENV=1
WORKDIR /app
COPY . .
USER florin
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "ops/healthcheck.py"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--blocking-threads", "4", "--backlog", "2048", "--backpressure", "1024", "--no-ws", \
     "--respawn-failed-workers", "--workers-kill-timeout", "20", "config.wsgi:application"]
