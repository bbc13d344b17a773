# SPDX-License-Identifier: BSD-3-Clause
#
# plugins/rocksdb, where RocksDB's headers are installed: nacre_rocksdb for programs that link nacre,
# and libnacre_rocksdb.so, which stock programs preload. That one has all of nacre inside, nothing of
# which is seen outside: its objects are compiled once more, since position-independent code costs
# what only a shared object needs.

# Where `nacre tour` looks for what it preloads into db_bench.
file(RELATIVE_PATH libraries_from_program "/prefix/${CMAKE_INSTALL_BINDIR}"
     "/prefix/${CMAKE_INSTALL_LIBDIR}")
target_compile_definitions(nacre_cli
                           PRIVATE NACRE_LIBRARIES_FROM_PROGRAM="${libraries_from_program}")

find_path(NACRE_ROCKSDB_INCLUDE rocksdb/file_system.h)
find_library(NACRE_ROCKSDB_LIBRARY rocksdb)
if(NOT NACRE_ROCKSDB_INCLUDE OR NOT NACRE_ROCKSDB_LIBRARY)
    message(STATUS "libnacre_rocksdb.so is not built: librocksdb-dev is not installed")
    return()
endif()

set(folder "${PROJECT_SOURCE_DIR}/plugins/rocksdb")
nacre_sources(sources "${folder}" ".cpp")
list(FILTER sources EXCLUDE REGEX "(_test|_fuzz|/preload|/tool_[a-z]+)\\.cpp$")
add_library(nacre_rocksdb STATIC ${sources})
target_include_directories(nacre_rocksdb SYSTEM PUBLIC "${NACRE_ROCKSDB_INCLUDE}")
target_link_libraries(nacre_rocksdb PUBLIC nacre_app "${NACRE_ROCKSDB_LIBRARY}")
nacre_use_pch(nacre_rocksdb nacre_std_pch)
nacre_room_programs(nacre_rocksdb rocksdb "${folder}" DEEP nacre_sim)

# What a sanitizer instruments cannot be loaded into a program that it did not.
if(NACRE_SANITIZE)
    return()
endif()

set(inside ${sources})
foreach(room IN LISTS NACRE_ROOMS)
    if(NOT room MATCHES "^nacre_(cli|sim)$")
        get_target_property(room_sources ${room} SOURCES)
        list(APPEND inside ${room_sources})
    endif()
endforeach()
# What warns has warned when it was compiled first.
set(options -fvisibility=hidden -fvisibility-inlines-hidden -w)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND options -fno-devirtualize-speculatively)
endif()
set(libs fmt::fmt spdlog::spdlog nlohmann_json::nlohmann_json CLI11::CLI11 PkgConfig::isal
         PkgConfig::uuid PkgConfig::uring PkgConfig::crypto Threads::Threads)
add_library(nacre_rocksdb_inside OBJECT ${inside})
set_target_properties(nacre_rocksdb_inside PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(nacre_rocksdb_inside PRIVATE "${PROJECT_SOURCE_DIR}/include"
                                                        "${PROJECT_SOURCE_DIR}")
target_include_directories(nacre_rocksdb_inside SYSTEM PRIVATE "${NACRE_ROCKSDB_INCLUDE}")
target_compile_definitions(nacre_rocksdb_inside
                           PRIVATE NACRE_PLUGINS_FROM_PROGRAM="${plugins_from_program}")
target_compile_options(nacre_rocksdb_inside PRIVATE ${options})
target_link_libraries(nacre_rocksdb_inside PRIVATE ${libs})
if(NACRE_PCH)
    target_precompile_headers(nacre_rocksdb_inside PRIVATE ${headers})
endif()

# What loading it does is its own.
add_library(nacre_rocksdb_preload MODULE "$<TARGET_OBJECTS:nacre_rocksdb_inside>"
                                         "${folder}/preload.cpp")
target_include_directories(nacre_rocksdb_preload PRIVATE "${PROJECT_SOURCE_DIR}/include"
                                                         "${PROJECT_SOURCE_DIR}")
target_include_directories(nacre_rocksdb_preload SYSTEM PRIVATE "${NACRE_ROCKSDB_INCLUDE}")
target_compile_options(nacre_rocksdb_preload PRIVATE -fvisibility=hidden)
set_target_properties(nacre_rocksdb_preload PROPERTIES
                      OUTPUT_NAME nacre_rocksdb LINKER_LANGUAGE CXX
                      LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
target_link_libraries(nacre_rocksdb_preload PRIVATE ${libs} "${NACRE_ROCKSDB_LIBRARY}")
target_link_options(nacre_rocksdb_preload PRIVATE -Wl,--no-undefined -Wl,-z,nodelete
                    "-Wl,--version-script=${folder}/preload.map")
set_property(TARGET nacre_rocksdb_preload APPEND PROPERTY LINK_DEPENDS "${folder}/preload.map")
if(NACRE_TESTS)
    # A stock program of RocksDB, for tests that preload.
    add_executable(nacre_rocksdb_writer "${folder}/tool_writer.cpp")
    target_include_directories(nacre_rocksdb_writer SYSTEM PRIVATE "${NACRE_ROCKSDB_INCLUDE}")
    target_link_libraries(nacre_rocksdb_writer PRIVATE "${NACRE_ROCKSDB_LIBRARY}")
endif()
install(TARGETS nacre_rocksdb_preload LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(TARGETS nacre_rocksdb ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
