# A worker on an NVIDIA GPU: torch and flash-attn for CUDA 13.0. The model is not in the image: the
# volume at /models holds a directory that MODEL_PATH names, or the hub's files (HF_HOME).
# Build from the repository's root: docker build -f docker/gpu.Dockerfile .
# The host needs NVIDIA's driver 580 or newer and its container toolkit.
ARG CUDA_DEVEL=nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG CUDA_RUNTIME=nvidia/cuda:13.0.1-runtime-ubuntu24.04

# hadolint ignore=DL3006
FROM ${CUDA_DEVEL} AS install
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# The newest versions of Ubuntu 24.04: its archive removes older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.12 python3.12-dev python3.12-venv g++ \
    && rm -rf /var/lib/apt/lists/* \
    && python3.12 -m venv /opt/bountycoder \
    && python3.12 -m venv /opt/build
ENV PATH=/opt/bountycoder/bin:$PATH
COPY docker/requirements/build.txt docker/requirements/worker-gpu.txt /tmp/
RUN pip install --require-hashes -r /tmp/worker-gpu.txt
# flash-attn has no wheel on the index: it is compiled against that torch, for A100 (80) and H100
# (90), about an hour on few CPUs. The compiler is not in the final image.
ARG FLASH_ATTN_CUDA_ARCHS=80;90
ARG MAX_JOBS=4
COPY docker/requirements/flash-attn.txt /tmp/
RUN pip install --require-hashes -r /tmp/build.txt \
    && FLASH_ATTENTION_FORCE_BUILD=TRUE pip install --no-deps --no-build-isolation \
        --require-hashes -r /tmp/flash-attn.txt \
    && pip uninstall -y ninja wheel
WORKDIR /build
COPY . .
RUN /opt/build/bin/pip install --require-hashes -r /tmp/build.txt \
    && /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && pip install --no-deps --no-index /wheels/*.whl


# hadolint ignore=DL3006
FROM ${CUDA_RUNTIME} AS worker
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.12 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 bountycoder \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent bountycoder \
    && install -d -o bountycoder -g bountycoder /models /var/lib/bountycoder/metrics
ENV PATH=/opt/bountycoder/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/models \
    METRICS_DIR=/var/lib/bountycoder/metrics \
    METRICS_HOST=0.0.0.0 \
    WORKER_METRICS_PORT=9103
COPY --from=install /opt/bountycoder /opt/bountycoder
COPY --chmod=0755 docker/health.py /usr/local/bin/healthy
WORKDIR /var/lib/bountycoder
USER 10001:10001
VOLUME /models
EXPOSE 9103
# The first start downloads 65 GB.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60m --retries=3 \
    CMD ["healthy", "http://127.0.0.1:9103/metrics", "bountycoder_worker_ready 1.0"]
ENTRYPOINT ["bountycoder"]
CMD ["worker"]
