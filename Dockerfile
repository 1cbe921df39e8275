# Ticketlock: the server and the command in one image. No shell, not root, nothing but the binary and what it links to.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin ticketlock \
    && install -D target/release/ticketlock /image/usr/local/bin/ticketlock \
    && install -D LICENSE /image/usr/share/doc/ticketlock/LICENSE
# The loader and the shared libraries that the binary names, at their own paths.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN ldd /image/usr/local/bin/ticketlock | grep -o '/[^ ]*' | sort -u \
    | while read -r library; do install -D "$(realpath "$library")" "/image$library"; done \
    && install -d -m 1777 /image/tmp \
    && install -d -m 0700 -o 65532 -g 65532 /image/data \
    && install -d /image/etc \
    && echo 'ticketlock:x:65532:65532::/nonexistent:/nonexistent' > /image/etc/passwd \
    && echo 'ticketlock:x:65532:' > /image/etc/group

FROM scratch
LABEL org.opencontainers.image.title="ticketlock" \
      org.opencontainers.image.description="A fair distributed lock service over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
USER 65532:65532
ENV TICKETLOCK_STORE=file:/data
VOLUME /data
EXPOSE 8476 8477
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/ticketlock", "health"]
ENTRYPOINT ["/usr/local/bin/ticketlock"]
CMD ["serve", "--listen", "0.0.0.0:8476", "--http", "0.0.0.0:8477"]
