# The agent: `serve` with your config at /etc/edge/edge.yaml. Envoy runs from its own image (see docker-compose.yml).
# The first stage is not part of the image. Its base has `strip`.
FROM python:3.12 AS build
WORKDIR /src
# The drivers of all that a configuration can name: the clouds' credentials, PostgreSQL, OTLP. `make lock` says which.
COPY requirements/image.lock ./
RUN python -m venv --without-pip /opt/edge \
    && pip --python /opt/edge/bin/python install --no-cache-dir --require-hashes -r image.lock
COPY pyproject.toml README.md LICENSE ./
COPY edge_extproc ./edge_extproc
RUN pip --python /opt/edge/bin/python install --no-cache-dir --no-deps --no-build-isolation .
# --build-arg WITHOUT="aws azure google guardrails otel postgres": a smaller image, without the drivers of these extras.
ARG WITHOUT=""
COPY deploy/trim.py ./
RUN /opt/edge/bin/python trim.py $WITHOUT \
    && find /opt/edge -name '*.so' -type f -exec strip --strip-unneeded {} +

FROM python:3.12-slim
# /run/edge is where workers' sockets lie; a new volume takes over its owner.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/edge --create-home edge \
    && install -d -m 0700 -o edge -g edge /run/edge
COPY --from=build /opt/edge /opt/edge
ENV PATH=/opt/edge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/edge
EXPOSE 10001
ENTRYPOINT ["edge-extproc"]
CMD ["serve", "--config", "/etc/edge/edge.yaml"]
