// The main() of every test binary. It makes no ring: ctest lists the tests on any machine.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// A worker thread may still be inside getaddrinfo when the tests end. What the resolver holds then
// hangs on that thread's own storage, where LeakSanitizer does not look (use_tls=0, for its look
// there can crash).
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:__res_\nleak:__libc_res_\nleak:_nss_\nleak:getaddrinfo\nleak:gaih_\n";
}
