# A small image that runs `keyferry serve`: one static binary, the public roots, and nothing else —
# no shell, no package manager, no libc. It runs as a user without privileges.
#
#   docker build -t keyferry .
#   docker run -p 8080:8080 -v ./keyferry:/etc/keyferry:ro -v keyferry:/var/lib/keyferry keyferry
#
# The config is /etc/keyferry/keyferry.yaml, and should listen on 0.0.0.0. The CA, the audit log and the encrypted
# store are kept in /var/lib/keyferry unless the config says otherwise; mount a volume there, or each container makes
# a CA of its own. docs/image.md says more.

FROM rust:1.95-bookworm AS build
# musl-gcc: the TLS library has C in it, and the binary is to need no libc at run time. The others: scripts/release.
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools llvm-19 openssl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The toolchain first, so that a change of the source does not fetch it again.
COPY rust-toolchain.toml ./
RUN rustup target add "$(uname -m)-unknown-linux-musl"
COPY . .
RUN target="$(uname -m)-unknown-linux-musl" \
    && scripts/release --target "$target" --target-dir target \
    && mkdir -p /image/usr/bin /image/etc/ssl/certs /image/etc/keyferry /image/var/lib/keyferry /image/trust /image/tmp \
    && cp "target/$target/release/keyferry" /image/usr/bin/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'keyferry:x:65532:65532::/var/lib/keyferry:/sbin/nologin' > /image/etc/passwd \
    && chown 65532:65532 /image/var/lib/keyferry /image/trust && chmod 700 /image/var/lib/keyferry && chmod 1777 /image/tmp

# What changes a pod's network (config/kubernetes/sidecar.yaml): docker build --target firewall -t keyferry-firewall .
FROM debian:bookworm-slim AS firewall
RUN apt-get update && apt-get install -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
COPY --from=build /image/usr/bin/keyferry /usr/bin/
ENTRYPOINT ["keyferry"]

FROM scratch
COPY --from=build /image/ /
# So that every verb finds the config and the volume by itself.
ENV HOME=/var/lib/keyferry XDG_CONFIG_HOME=/etc XDG_DATA_HOME=/var/lib PATH=/usr/bin
WORKDIR /var/lib/keyferry
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["keyferry"]
CMD ["serve"]
