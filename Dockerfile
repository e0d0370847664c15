# Pinned by its full version. To pin the content too, look its digest up once, for example with
# `crane digest docker.io/library/python:3.13.16-slim-bookworm`, and give it to the build:
#   docker build --build-arg PYTHON=docker.io/library/python:3.13.16-slim-bookworm@sha256:... .
# Any image with Python 3.11 or newer as `python3`, with venv and the C++ library (google-re2 needs it), will do.
ARG PYTHON=docker.io/library/python:3.13.16-slim-bookworm

FROM ${PYTHON} AS build
# A package index of one's own, and the authority that signs for it (`cert = /run/secrets/ca.crt` in pip.conf), reach
# this stage as secrets, which no layer keeps:
#   docker build --secret id=pip.conf,src=pip.conf --secret id=ca.crt,src=ca.crt .
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# pip and the build backend get a place of their own and never reach the final stage.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/registry-cleanup

# The dependencies first: they change less often than the program. Only wheels, only with known hashes.
COPY requirements.lock ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    /opt/build/bin/pip --python /opt/registry-cleanup/bin/python install --no-compile \
        --require-hashes --only-binary=:all: --requirement requirements.lock

COPY requirements-dev.lock ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    sed -n '/^\(hatchling\|packaging\|pathspec\|pluggy\|trove-classifiers\|tomlkit\)==/,/[^\\]$/p' \
        requirements-dev.lock > build.lock \
    && /opt/build/bin/pip install --require-hashes --only-binary=:all: --requirement build.lock

COPY pyproject.toml README.md LICENSE ./
COPY crds ./crds
COPY operator ./operator
# By name, not by file: a path of this stage would stand in the installed package's direct_url.json.
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/registry-cleanup/bin/python install \
        --no-compile --no-deps --no-index --find-links dist registry-cleanup-operator \
    && /opt/build/bin/pip --python /opt/registry-cleanup/bin/python check
# Compiled code that is believed without a look at its source: layers round the times of files to seconds, so half of
# it would not be believed by its time, and on a read-only root file system compiled anew at each start.
# The imports find a library that the base lacks now, not in the cluster; each command has imports of its own.
RUN /opt/registry-cleanup/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash \
        /opt/registry-cleanup/lib \
    && /opt/registry-cleanup/bin/python -c 'import importlib, pkgutil, registry_cleanup as own; \
        [importlib.import_module(each.name) for each in pkgutil.walk_packages(own.__path__, own.__name__ + ".")]' \
    && /opt/registry-cleanup/bin/registry-cleanup --help > /dev/null

FROM ${PYTHON}
# Nothing is ever installed here: the base's pip goes, and what a virtual environment would get one from. What belongs
# to Debian packages goes with them, so that the list of packages stays true.
RUN if python3 -m pip --version; then python3 -m pip uninstall --yes pip; fi \
    && owned=$(dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' 'python3*-venv' 'python3-*-whl' \
        | sed -n 's/^ii *//p') \
    && if [ -n "$owned" ]; then dpkg --purge $owned; fi \
    && rm -rf /usr/local/lib/python3.*/ensurepip /var/log/dpkg.log
COPY --from=build /opt/registry-cleanup /opt/registry-cleanup
# In the cluster the root file system is read-only: everything was compiled above. The user has no entry in /etc/passwd,
# and kopf asks for a name.
ENV LOGNAME=registry-cleanup \
    PATH=/opt/registry-cleanup/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
# A number, so that Kubernetes can check runAsNonRoot; OpenShift runs it with another one, in group 0.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["registry-cleanup"]
CMD ["operator"]
# Last, so that another revision changes nothing but these.
ARG PYTHON
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="registry-cleanup-operator" \
      org.opencontainers.image.description="Prunes the tags that a RegistryCleanupPolicy no longer needs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
