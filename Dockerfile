# pelton-echo and pelton-proxy on Debian 12.
#
#   docker build -t pelton .                      the programs alone
#   docker build -t pelton-test --target test .   everything that the tests need, built
#
# Docker's own seccomp profile refuses io_uring since version 25: run the image, and the tests,
# with --security-opt seccomp=PROFILE where PROFILE allows io_uring_setup, io_uring_enter and
# io_uring_register. Where they are refused the programs say so, and end with 78.

FROM debian:12-slim AS build
WORKDIR /src
COPY scripts/setup.sh scripts/setup.sh
RUN scripts/setup.sh --minimal
COPY . .
RUN cmake --preset release -D PELTON_BUILD_TESTS=OFF -D PELTON_BUILD_EXAMPLES=OFF \
      -D PELTON_BUILD_PERF=OFF \
 && cmake --build --preset release \
 && cmake --install build/release --prefix /opt/pelton --component apps --strip

# The tests make rings, which building an image may not: they run when the container does.
FROM build AS test
RUN scripts/setup.sh
RUN cmake --preset release && cmake --build --preset release
ENTRYPOINT ["scripts/test.sh", "--no-setup"]
CMD ["--quick"]

FROM debian:12-slim AS runtime
RUN apt-get update \
 && apt-get install --yes --no-install-recommends liburing2 libspdlog1.10 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin pelton
COPY --from=build /opt/pelton/bin/ /usr/local/bin/
USER 10001
EXPOSE 8888
STOPSIGNAL SIGTERM
ENTRYPOINT ["pelton-echo"]
CMD ["--listen", "0.0.0.0:8888"]
