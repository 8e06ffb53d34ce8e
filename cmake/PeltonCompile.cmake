# How our own builds compile: the warnings, in pelton_warnings, PELTON_SANITIZE's sanitizers,
# what libFuzzer sees by, and the counters of PELTON_COVERAGE.

# Linked privately by every target of ours. Empty where pelton is a part of another project: a new
# compiler's new warning must not break somebody else's build.
add_library(pelton_warnings INTERFACE)
if(PROJECT_IS_TOP_LEVEL)
  target_compile_options(pelton_warnings INTERFACE -Wall -Wextra -Wconversion -Wshadow -Werror)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # Clang counts -Wsign-conversion to -Wconversion, GCC does not: the two must agree.
    target_compile_options(pelton_warnings INTERFACE -Wno-sign-conversion)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC bug 105651: std::string concatenation warns falsely.
    target_compile_options(pelton_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
  endif()
endif()

if(PELTON_SANITIZE STREQUAL "address")
  # UBSan's look at a vptr opens a pipe: without a free descriptor, as in tests, it cries wolf.
  set(pelton_sanitizers -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all)
elseif(PELTON_SANITIZE STREQUAL "thread")
  set(pelton_sanitizers -fsanitize=thread)
elseif(PELTON_SANITIZE)
  message(FATAL_ERROR "PELTON_SANITIZE is '${PELTON_SANITIZE}': use address or thread")
endif()
if(PELTON_SANITIZE)
  add_compile_options(${pelton_sanitizers} -fno-omit-frame-pointer)
  add_link_options(${pelton_sanitizers})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # The checks that a sanitizer weaves in confuse GCC's flow analysis.
    target_compile_options(pelton_warnings INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()

if(PELTON_BUILD_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "PELTON_BUILD_FUZZERS needs Clang: cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link) # coverage, and the operands of comparisons
endif()

if(PELTON_COVERAGE)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "PELTON_COVERAGE needs Clang: cmake --preset coverage")
  endif()
  # The counters can lie in a file while the program runs, so that one that is killed leaves them.
  add_compile_options("SHELL:-fprofile-instr-generate -fcoverage-mapping"
                      "SHELL:-mllvm -runtime-counter-relocation=true")
  add_link_options(-fprofile-instr-generate)
endif()
