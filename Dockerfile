# syntax=docker/dockerfile:1
# The platform alone in an image: one static program, no shell, not root. The installation
# is in the volume /var/lib/cmmpd; docs/operations.md tells how to make one in it.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/usr/local/bin/cmmpd ./cmd/cmmpd \
 && mkdir -p /out/var/lib/cmmpd /out/etc/ssl/certs \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && chown 10001:10001 /out/var/lib/cmmpd && chmod 0700 /out/var/lib/cmmpd

FROM scratch
COPY --from=build /out/ /
USER 10001:10001
WORKDIR /var/lib/cmmpd
VOLUME /var/lib/cmmpd
EXPOSE 25 143 389 465 587 636 993
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/cmmpd"]
CMD ["serve", "--config", "/var/lib/cmmpd/cmmpd.toml"]
