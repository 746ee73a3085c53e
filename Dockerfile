# syntax=docker/dockerfile:1
# docker build -t lucid .
# docker run --rm -p 127.0.0.1:7020:7020 -e LUCID_AUTHENTICATION__SECRET_KEY="$(openssl rand -hex 32)" lucid

FROM rust:1.95-slim-bookworm AS build
# zstd and ring compile some C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
RUN cargo build --release --locked --bin lucid && strip target/release/lucid

# glibc and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/lucid /usr/bin/lucid
# Within a container only the container can reach loopback; what is published decides who gets in.
ENV LUCID_GENERAL__BIND_ADDRESS=0.0.0.0
WORKDIR /var/lib/lucid
EXPOSE 7020
# A file may be mounted at /etc/lucid/lucid.yml. Without one the variables above and below do.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/lucid", "--no-banner"]
CMD ["server"]
