# pelton-echo and pelton-proxy on Debian 12, and the images that test and measure them.
#
#   runtime   the two programs, nothing else, not as root (the default)
#   test      every test, built; runs scripts/test.sh
#   perf      the benchmark suite and the peers' packages; runs scripts/bench.sh
#   build     the programs with what compiled them
#
# scripts/docker.sh builds and runs them with any engine; docs/containers.md tells how to deploy.
# No step here needs io_uring: engines refuse it while they build. What makes rings runs later, in
# a container started with scripts/seccomp.json. BASE_IMAGE may be any Debian 12.
#
# Packages come before sources, so that an edit does not install them again.
ARG BASE_IMAGE=debian:12-slim

FROM ${BASE_IMAGE} AS packages
WORKDIR /src
COPY scripts/setup.sh scripts/setup.sh
RUN scripts/setup.sh --minimal

# The packages of the shared libraries which the programs load are asked of the programs, so that
# no second list of them exists: the file of each library, then its package.
FROM packages AS build
COPY . .
RUN cmake --preset release -D PELTON_BUILD_TESTS=OFF -D PELTON_BUILD_EXAMPLES=OFF \
      -D PELTON_BUILD_PERF=OFF \
 && cmake --build --preset release \
 && cmake --install build/release --prefix /opt/pelton --component apps --strip
RUN ldd /opt/pelton/bin/* | sed -n 's/.* => \(.*\) (0x.*/\1/p' | sort -u \
  | xargs -n 1 readlink -f | sed 's,^.*/,*/,' \
  | xargs dpkg-query --search | cut -d : -f 1 | sort -u > /opt/pelton/packages

FROM packages AS test-packages
RUN scripts/setup.sh

FROM test-packages AS test
COPY . .
RUN cmake --preset release && cmake --build --preset release
ENTRYPOINT ["scripts/test.sh", "--no-setup"]
CMD ["--quick"]

FROM test-packages AS perf-packages
RUN scripts/setup.sh --bench

FROM perf-packages AS perf
COPY . .
RUN cmake --preset release -D PELTON_BUILD_TESTS=OFF -D PELTON_BUILD_EXAMPLES=OFF \
 && cmake --build --preset release
RUN scripts/peers.sh
ENTRYPOINT ["scripts/bench.sh", "--no-setup"]
CMD ["--quick"]

# No HEALTHCHECK: the programs have no command that asks a running one how it is, and a check that
# does not ask says nothing.
FROM ${BASE_IMAGE} AS runtime
COPY --from=build /opt/pelton/packages /opt/pelton/packages
RUN apt-get update \
 && xargs apt-get install --yes --no-install-recommends < /opt/pelton/packages \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*
COPY --from=build /opt/pelton/bin/ /usr/local/bin/
USER 10001:10001
EXPOSE 8888
STOPSIGNAL SIGTERM
ENTRYPOINT ["pelton-echo"]
CMD ["--listen", "0.0.0.0:8888"]
