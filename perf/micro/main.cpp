// pelton-micro: micro benchmarks of single operations, on Google Benchmark. The benchmarks are in
// the files beside this one, by subject; README.md says what each measures.
//
// Exit status: 0, 2 for an option that is not known, 78 where io_uring is refused.
#include <cstdio>

#include <pelton/engine/uring_ring.hpp>

#include "support.hpp"

int main(int argc, char** argv) {
  for (int index = 1; index < argc; ++index) {
    const std::string_view option = argv[index];
    if (option != "--help" && option != "-h") continue;
    std::puts("pelton-micro: micro benchmarks of pelton, e.g. --benchmark_filter='^readuntil'");
    break;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  try {
    const pelton::Loop loop(pelton::micro::quiet_options());
    benchmark::AddCustomContext("pelton_ring", loop.engine_info().name);
  } catch (const pelton::RingUnavailable& error) {
    std::fprintf(stderr, "pelton-micro: %s\n", error.what());
    return 78;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
