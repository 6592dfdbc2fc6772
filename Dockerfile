FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements/prod.txt /requirements.txt
RUN /venv/bin/pip install --require-hashes -r /requirements.txt
WORKDIR /app
COPY . .
RUN SECRET_KEY=only-for-this-step STATIC_ROOT=/static \
        /venv/bin/python manage.py collectstatic --no-input --ignore redoc --ignore rest_framework \
    && /venv/bin/python -m compileall -q .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data alterna \
    && install -d -o alterna -g alterna /data
COPY --from=build /venv /venv
COPY --from=build /static /static
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    STATIC_ROOT=/static DATA_DIR=/data SIGNS_DIR=/tmp/alterna LOG_FORMAT=json
USER alterna
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=20s CMD ["python", "scripts/web_is_healthy.py"]
CMD ["uvicorn", "config.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--lifespan", "off", "--timeout-graceful-shutdown", "8", "--log-level", "warning", "--no-access-log", "--no-server-header"]
