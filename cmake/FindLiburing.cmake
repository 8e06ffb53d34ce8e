# Finds liburing, which ships no CMake package of its own, and defines Liburing::Liburing.
#
# Installed beside peltonConfig.cmake: whoever links pelton's static libraries needs it too.
# pkg-config, where there is one, tells the place and the version.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(LIBURING QUIET IMPORTED_TARGET liburing)
  set(Liburing_VERSION "${LIBURING_VERSION}")
endif()

find_path(Liburing_INCLUDE_DIR NAMES liburing.h HINTS ${LIBURING_INCLUDE_DIRS})
find_library(Liburing_LIBRARY NAMES uring HINTS ${LIBURING_LIBRARY_DIRS})
mark_as_advanced(Liburing_INCLUDE_DIR Liburing_LIBRARY)

if(NOT Liburing_VERSION AND EXISTS "${Liburing_INCLUDE_DIR}/liburing/io_uring_version.h")
  # Without pkg-config: a header that liburing has had since 2.3.
  file(STRINGS "${Liburing_INCLUDE_DIR}/liburing/io_uring_version.h" liburing_lines REGEX "define")
  if("${liburing_lines}" MATCHES "VERSION_MAJOR +([0-9]+).*VERSION_MINOR +([0-9]+)")
    set(Liburing_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  Liburing
  REQUIRED_VARS Liburing_LIBRARY Liburing_INCLUDE_DIR
  VERSION_VAR Liburing_VERSION
  REASON_FAILURE_MESSAGE "On Debian: apt-get install liburing-dev"
)

if(Liburing_FOUND AND NOT TARGET Liburing::Liburing)
  add_library(Liburing::Liburing UNKNOWN IMPORTED)
  set_target_properties(
    Liburing::Liburing
    PROPERTIES IMPORTED_LOCATION "${Liburing_LIBRARY}"
               INTERFACE_INCLUDE_DIRECTORIES "${Liburing_INCLUDE_DIR}"
  )
endif()
