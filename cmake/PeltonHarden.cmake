# PELTON_HARDEN: the OpenSSF's compiler options for hardening C and C++, in optimised builds.
#
# They are how pelton's own code is compiled and its programs are linked, and reach nobody who uses
# the libraries. Sanitized, fuzzed and coverage builds go without: they have checks of their own.
# test/structure/hardening.py looks whether the programs have what is asked for here.
option(PELTON_HARDEN "Compile and link with the options of hardened builds" ${PROJECT_IS_TOP_LEVEL})

add_library(pelton_hardening INTERFACE)
set(pelton_hardened_link_options)
if(NOT PELTON_HARDEN OR PELTON_SANITIZE OR PELTON_BUILD_FUZZERS OR PELTON_COVERAGE)
  return()
endif()
set(PELTON_HARDENED ON)
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)

set(pelton_optimised "$<CONFIG:Release,RelWithDebInfo,MinSizeRel>")
# They cost 13 % of an echo's own instructions in user space (1665 to 1883), which are a small part
# of what the kernel needs for it: beside a build without them (scripts/bench.sh --against DIR) an
# echo takes 0.99 [0.86..1.11] of the CPU, one on a unix socket 1.00 [0.94..1.30], a proxied request
# 1.00 [0.89..1.02], and where the kernel has little to do, for a line of 100 B of many, it may be
# 1.03 [0.71..1.05]. -ftrivial-auto-var-init=zero, -fno-strict-overflow and
# -fno-delete-null-pointer-checks would cost another 1.4 %.
foreach(flag IN ITEMS -fstack-protector-strong -fstack-clash-protection -fcf-protection=full)
  string(MAKE_C_IDENTIFIER "PELTON_HAS${flag}" has)
  check_cxx_compiler_flag(${flag} ${has})
  if(${has})
    target_compile_options(pelton_hardening INTERFACE "$<${pelton_optimised}:${flag}>")
  endif()
endforeach()
target_compile_options(pelton_hardening INTERFACE -Wformat=2)

# Level 3 needs GCC 12 or Clang 15, and glibc 2.34; what lacks it warns.
set(CMAKE_REQUIRED_FLAGS "-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -Werror")
check_cxx_source_compiles("#include <string.h>\nint main() { return 0; }" PELTON_HAS_FORTIFY_3)
unset(CMAKE_REQUIRED_FLAGS)
set(pelton_fortify 2)
if(PELTON_HAS_FORTIFY_3)
  set(pelton_fortify 3)
endif()
target_compile_options(
  pelton_hardening
  INTERFACE "$<${pelton_optimised}:SHELL:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=${pelton_fortify}>"
)

# Where programs start at a random place, what is linked into them must be compiled for it. Shared
# libraries are in any case.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C CXX)
if(CMAKE_CXX_LINK_PIE_SUPPORTED)
  set(PELTON_PIE ON)
  if(NOT BUILD_SHARED_LIBS AND NOT CMAKE_POSITION_INDEPENDENT_CODE)
    target_compile_options(pelton_hardening INTERFACE -fPIE)
  endif()
endif()

set(pelton_hardened_link_options
    "LINKER:-z,relro" "LINKER:-z,now" "LINKER:-z,noexecstack" "LINKER:--as-needed"
)
