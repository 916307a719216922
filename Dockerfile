# flow-uring in a container: the program, the few files it needs, and nothing else. No shell, no package manager.
#
#   docker build -t flow-uring .
#   docker run --rm -p 127.0.0.1:8899:8899 flow-uring demo
#
# With secrets, limits and the seccomp profile that allows io_uring: deploy/compose.yaml. Under Docker's default profile
# it runs on epoll. scripts/container builds this very file and checks what comes out.

FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# Cargo.toml names these, so they must be there; none is built.
COPY benches benches
COPY src src
COPY scripts/static scripts/
# The caches outlive a build, so that the next one compiles what has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    install -D -m 755 "$(scripts/static)" /image/usr/local/bin/flow-uring

# The C library is within the program. The packages that the image has something of are noted where scanners look for them.
RUN install -d /image/etc \
 && cp --parents -L /etc/ssl/certs/ca-certificates.crt /image \
 && install -d /image/var/lib/dpkg/status.d \
 && for package in libc6 ca-certificates; do \
      dpkg-query --status "$package" > "/image/var/lib/dpkg/status.d/$package"; \
    done \
 && echo 'flow-uring:x:65532:65532::/:/' > /image/etc/passwd \
 && echo 'flow-uring:x:65532:' > /image/etc/group \
 && install -d -m 1777 /image/tmp \
 && install -d -o 65532 -g 65532 -m 700 /image/logs /image/state

FROM scratch
COPY --from=build /image /
# By number, so that an engine that insists on a user other than root can see that it is one.
USER 65532:65532
WORKDIR /
# A container's loopback is its own: who may reach the port is said where it is published.
ENV FLOW_PROXY_HOST=0.0.0.0 \
    FLOW_PROXY_SECRETS_FILE=/run/secrets/secrets.json \
    FLOW_PROXY_USAGE_DB=/state/usage.sqlite
EXPOSE 8899
# Lets open requests end. Give it the time: --stop-timeout, or FLOW_PROXY_DRAIN_TIMEOUT for less.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=5s CMD ["/usr/local/bin/flow-uring", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/flow-uring"]
