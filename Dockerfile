# The image holds the static binary and nothing else. It needs the
# capabilities NET_ADMIN and NET_RAW, and /dev/net/tun for TAP devices.
ARG GO_IMAGE=golang:1.26
FROM ${GO_IMAGE} AS build
ARG GOPROXY
ARG GOSUMDB
ARG GOFLAGS
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o /out/appliance ./appliance

FROM scratch
COPY --from=build /out/appliance /appliance
ENTRYPOINT ["/appliance"]
CMD ["run", "-c", "/etc/appliance.toml"]
