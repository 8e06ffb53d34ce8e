# The functions by which the folders declare their targets.

# pelton_settings(TARGET): what every target of ours has in common.
function(pelton_settings target)
  target_compile_features(${target} PUBLIC cxx_std_23)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:pelton_warnings>)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:pelton_hardening>)
  get_target_property(type ${target} TYPE)
  if(type MATCHES "EXECUTABLE|SHARED_LIBRARY")
    # Not of pelton_hardening: a static library would hand them on to whoever links it.
    target_link_options(${target} PRIVATE ${pelton_hardened_link_options})
  endif()
  if(PELTON_PIE AND type STREQUAL "EXECUTABLE")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
endfunction()

# pelton_layer(NAME): the library pelton_NAME, alias pelton::NAME, of the .cpp files in this folder.
function(pelton_layer name)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  if(NOT sources)
    # A layer of headers only is still a library, so that its users need not know.
    set(sources "${CMAKE_CURRENT_BINARY_DIR}/headers_only.cpp")
    file(CONFIGURE OUTPUT "${sources}" CONTENT "// pelton::${name} has no sources of its own.\n")
  endif()
  add_library(pelton_${name} ${sources})
  add_library(pelton::${name} ALIAS pelton_${name})
  pelton_settings(pelton_${name})
  pelton_precompile(pelton_${name})
  if(PELTON_PRECOMPILE)
    pelton_batches(pelton_${name})
  endif()
  target_include_directories(
    pelton_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
  )
  # While the version is 0.x each minor version may break the ABI.
  set_target_properties(
    pelton_${name}
    PROPERTIES EXPORT_NAME ${name}
               VERSION ${PROJECT_VERSION}
               SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  )
endfunction()

# pelton_program(TARGET SOURCE... LIBRARIES LIB...): an executable in bin/.
function(pelton_program target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBRARIES")
  add_executable(${target} ${arg_UNPARSED_ARGUMENTS})
  pelton_settings(${target})
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES})
endfunction()
