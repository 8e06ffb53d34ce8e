// The main() of every test binary. It makes no ring: ctest lists the tests on any machine.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
