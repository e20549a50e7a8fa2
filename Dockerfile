# syntax=docker/dockerfile:1
FROM rust:1.95.0-bookworm AS build
# The image brings the toolchain; without this rustup would fetch the components that only development needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package countersign \
    && install -D target/release/countersign /out/countersign

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl libssl3 tini zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/countersign --shell /usr/sbin/nologin countersign \
    && install -d -o countersign -g countersign -m 0750 /var/lib/countersign
COPY --from=build /out/countersign /usr/local/bin/countersign
USER countersign
WORKDIR /var/lib/countersign
VOLUME /var/lib/countersign
EXPOSE 8080 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=6 CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:9464/readyz"]
ENTRYPOINT ["/usr/bin/tini", "--", "countersign"]
CMD ["up", "--data", "/var/lib/countersign", "--listen", "0.0.0.0:8080", "--admin", "0.0.0.0:9464"]
