# Precompiled headers and sources in batches, for builds that are made from nothing again and again,
# such as the tests': the standard library's headers are half of what a source of ours costs.
#
# Off by default, and in the builds to deploy: a source that forgets an include compiles with it.
option(PELTON_PRECOMPILE "Precompile the standard headers, compile sources in batches" OFF)

# pelton_precompile(TARGET [HEADER...]): for targets of many sources. HEADERs come on top.
function(pelton_precompile target)
  if(NOT PELTON_PRECOMPILE)
    return()
  endif()
  target_precompile_headers(
    ${target}
    PRIVATE <algorithm> <array> <atomic> <chrono> <coroutine> <cstdint> <exception> <expected>
            <functional> <memory> <mutex> <optional> <span> <string> <string_view> <system_error>
            <thread> <utility> <variant> <vector> ${ARGN}
  )
endfunction()

# pelton_batches(TARGET): compiles its sources eight at a time. They share the anonymous namespace.
function(pelton_batches target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It takes the anonymous namespaces of what a batch includes for those of headers.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()
