# Pinned by its full version. To pin the content too, look its digest up once, for example with
# `crane digest docker.io/library/python:3.13.16-slim-bookworm`, and give it to the build:
#   docker build --build-arg PYTHON=docker.io/library/python:3.13.16-slim-bookworm@sha256:... .
ARG PYTHON=docker.io/library/python:3.13.16-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/registry-cleanup

# The dependencies first: they change less often than the program. Only wheels, only with known hashes.
COPY requirements.lock ./
RUN /opt/registry-cleanup/bin/pip install --require-hashes --only-binary=:all: --requirement requirements.lock

# The build backend gets a place of its own and never reaches the final stage.
COPY requirements-dev.lock pyproject.toml README.md LICENSE ./
COPY operator ./operator
COPY crds ./crds
RUN python -m venv /opt/build \
    && sed -n '/^\(hatchling\|packaging\|pathspec\|pluggy\|trove-classifiers\|tomlkit\)==/,/[^\\]$/p' \
        requirements-dev.lock > build.lock \
    && /opt/build/bin/pip install --require-hashes --only-binary=:all: --requirement build.lock \
    && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/registry-cleanup/bin/pip install --no-deps --no-index dist/*.whl \
    && /opt/registry-cleanup/bin/pip check \
    && /opt/registry-cleanup/bin/pip uninstall --yes pip

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="registry-cleanup-operator" \
      org.opencontainers.image.description="Prunes the tags that a RegistryCleanupPolicy no longer needs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/registry-cleanup /opt/registry-cleanup
# pip compiled everything above; at run time the root file system is read-only in the cluster.
ENV PATH=/opt/registry-cleanup/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
# A number, so that Kubernetes can check runAsNonRoot; OpenShift runs it with another one.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["registry-cleanup"]
CMD ["operator"]
