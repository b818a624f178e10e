# A static binary on an empty base: nothing in the image but gatelet itself, and the certificate
# authorities that vouch for the servers where issuers publish their keys.
#
#   docker build -t gatelet .
#   docker run --read-only -p 8080:8080 -v ./config.toml:/etc/gatelet/config.toml:ro -v gatelet:/var/lib/gatelet gatelet
#
# tests/packaging/test_dockerfile.py runs the commands of the build stage, and the binary in a
# root that holds only what the final stage copies.

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# crt-static links glibc in; its resolver then reads /etc/hosts and asks DNS itself, without NSS
# libraries. In a static binary the random generator has to be linked by name, for it would be looked
# for in a shared library, and then in /dev. With --target neither flag reaches build scripts.
ENV RUSTFLAGS="-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\""
RUN host=$(rustc -vV | sed -n 's/^host: //p') \
    && cargo build --release --locked --bin gatelet --target "$host" \
    && install -D -m 0755 "target/$host/release/gatelet" out/gatelet
# Where a store goes; the volume mounted there takes over its owner and mode.
RUN install -d -m 0700 out/store

FROM scratch
COPY --from=build /src/out/gatelet /gatelet
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /src/out/store /var/lib/gatelet
USER 65532:65532
# Both families. Only the proxy's port is for the world.
ENV GATELET__LISTEN__PROXY="[::]:8080" \
    GATELET__LISTEN__TELEMETRY="[::]:9464"
EXPOSE 8080 9464
ENTRYPOINT ["/gatelet"]
CMD ["serve", "--config", "/etc/gatelet/config.toml"]
