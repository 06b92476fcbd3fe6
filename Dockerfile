# One image; the role is the command: `docker run IMAGE serve auth`, `docker run -p 8080:8080 IMAGE up`.
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
# what builds stays in this stage; what runs is every dependency at the version and hash that was tested
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements/build.txt
RUN python -m venv /opt/polyroute && /opt/polyroute/bin/pip install --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY gen gen
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/polyroute/bin/pip install --no-deps dist/*.whl \
    && /opt/polyroute/bin/python -m compileall -q /opt/polyroute/lib

FROM python:3.12-slim-bookworm
# libgomp1: the embedded model's runtime uses OpenMP and does not bring it along
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin polyroute \
    && install --directory --owner polyroute --group polyroute --mode 0700 /var/lib/polyroute /var/cache/polyroute
COPY --from=build /opt/polyroute /opt/polyroute
# everything that is written goes to these folders and to /tmp: the rest may be read-only
ENV PATH=/opt/polyroute/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    POLYROUTE_DATA=/var/lib/polyroute \
    POLYROUTE_CACHE=/var/cache/polyroute
USER 10001:10001
WORKDIR /var/lib/polyroute
EXPOSE 8080 8081
ENTRYPOINT ["polyroute"]
CMD ["up", "--listen", "0.0.0.0:8080"]
