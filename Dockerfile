# syntax=docker/dockerfile:1

FROM python:3.11.14-slim-bookworm AS builder
WORKDIR /build
RUN python -m venv /opt/riffle
COPY requirements.lock ./
RUN /opt/riffle/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary=:all: -r requirements.lock
COPY pyproject.toml README.md ./
COPY recsys recsys
COPY service service
RUN /opt/riffle/bin/pip install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM python:3.11.14-slim-bookworm
# libgomp1: the only library that the wheels (implicit) want and this image lacks.
# tini: Ray's orphans end up with process 1, which has to reap them, under every container runtime.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin riffle \
    && install -d -o riffle -g riffle -m 0700 /var/lib/riffle
COPY --from=builder /opt/riffle /opt/riffle
# One thread per replica, as in service/stack/ray_environment.py: parallelism is more replicas.
# Compiled for the machine it runs on, so in the volume: the folder of the sources is read-only.
ENV PATH=/opt/riffle/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    NUMBA_CACHE_DIR=/var/lib/riffle/numba \
    RIFFLE_HOME=/var/lib/riffle \
    RIFFLE_HTTP_HOST=0.0.0.0
WORKDIR /var/lib/riffle
USER 10001:10001
VOLUME /var/lib/riffle
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["tini", "--", "riffle"]
CMD ["serve", "--foreground"]
