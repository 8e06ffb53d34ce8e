# Precompiled headers, for builds that are made from nothing again and again, such as the tests':
# the standard library's headers are half of what a source of ours costs.
#
# Off by default, and in the builds to deploy: a source that forgets an include compiles with it.
option(PELTON_PRECOMPILE "Precompile the standard headers" OFF)

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
