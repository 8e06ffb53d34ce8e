# `cmake --install`: libraries, headers, the CMake package and pelton.pc. All of it is relocatable.
include(CMakePackageConfigHelpers)

set(pelton_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/pelton")

install(
  TARGETS pelton_engine pelton_proto pelton_stream
  EXPORT peltonTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev
)
foreach(layer IN ITEMS engine proto stream)
  install(
    DIRECTORY "${PROJECT_SOURCE_DIR}/${layer}/"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/pelton/${layer}"
    COMPONENT dev
    FILES_MATCHING
    PATTERN "*.hpp"
    PATTERN "stream.hpp" EXCLUDE # spelled <pelton/stream.hpp>, below
    PATTERN "simulation.hpp" EXCLUDE # for the .cpp alone
  )
endforeach()
install(
  FILES "${PROJECT_SOURCE_DIR}/stream/stream.hpp"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/pelton"
  COMPONENT dev
)

# A static library hands its private dependencies on to whoever links it, a shared one does not.
if(BUILD_SHARED_LIBS)
  set(PELTON_IS_SHARED TRUE)
else()
  set(PELTON_IS_SHARED FALSE)
endif()
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/peltonConfig.cmake.in" "${PROJECT_BINARY_DIR}/peltonConfig.cmake"
  INSTALL_DESTINATION "${pelton_cmake_dir}"
)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/peltonConfigVersion.cmake" COMPATIBILITY SameMinorVersion
)
install(
  FILES "${PROJECT_BINARY_DIR}/peltonConfig.cmake" "${PROJECT_BINARY_DIR}/peltonConfigVersion.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/FindLiburing.cmake"
  DESTINATION "${pelton_cmake_dir}"
  COMPONENT dev
)
install(
  EXPORT peltonTargets
  NAMESPACE pelton::
  DESTINATION "${pelton_cmake_dir}"
  COMPONENT dev
)

# From pelton.pc back to the prefix, so that `cmake --install --prefix` and DESTDIR both work.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(pelton_pc_prefix "${CMAKE_INSTALL_PREFIX}")
  set(pelton_pc_libdir "${CMAKE_INSTALL_FULL_LIBDIR}")
  set(pelton_pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
  cmake_path(
    RELATIVE_PATH CMAKE_INSTALL_PREFIX
    BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig"
    OUTPUT_VARIABLE pelton_pc_up
  )
  set(pelton_pc_prefix "\${pcfiledir}/${pelton_pc_up}")
  set(pelton_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(pelton_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(
  "${PROJECT_SOURCE_DIR}/cmake/pelton.pc.in" "${PROJECT_BINARY_DIR}/pelton.pc" @ONLY
)
install(
  FILES "${PROJECT_BINARY_DIR}/pelton.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig"
  COMPONENT dev
)
