# SPDX-License-Identifier: BSD-3-Clause
#
# The chunk store, where RocksDB is: nacre_chunk for programs that link nacre, and nacre-chunk.so,
# which `nacre chunk` opens when it is first used; nothing else links RocksDB.

set(folder "${PROJECT_SOURCE_DIR}/src/chunk")
nacre_sources(sources "${folder}" ".cpp")
list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz)\\.cpp$")
add_library(nacre_chunk STATIC ${sources})
target_link_libraries(nacre_chunk PUBLIC nacre_rocksdb)
nacre_use_pch(nacre_chunk nacre_std_pch)
nacre_room_programs(nacre_chunk chunk "${folder}" DEEP nacre_sim)
install(TARGETS nacre_chunk ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")

# As libnacre_rocksdb.so: it has all of nacre inside, compiled to be position-independent.
if(NOT TARGET nacre_rocksdb_inside)
    return()
endif()
nacre_sources(tool "${PROJECT_SOURCE_DIR}/plugins/chunk" ".cpp")
add_library(nacre-chunk MODULE ${sources} ${tool} "$<TARGET_OBJECTS:nacre_rocksdb_inside>")
target_include_directories(nacre-chunk PRIVATE "${PROJECT_SOURCE_DIR}/include"
                                               "${PROJECT_SOURCE_DIR}")
target_include_directories(nacre-chunk SYSTEM PRIVATE "${NACRE_ROCKSDB_INCLUDE}")
target_compile_options(nacre-chunk PRIVATE -fvisibility=hidden -fvisibility-inlines-hidden)
target_link_libraries(nacre-chunk PRIVATE ${libs} "${NACRE_ROCKSDB_LIBRARY}")
target_link_options(nacre-chunk PRIVATE -Wl,--no-undefined
                    "-Wl,--version-script=${PROJECT_SOURCE_DIR}/plugins/chunk/chunk.map")
set_target_properties(nacre-chunk PROPERTIES PREFIX "" LINKER_LANGUAGE CXX
                                             LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
set_property(TARGET nacre-chunk APPEND PROPERTY
             LINK_DEPENDS "${PROJECT_SOURCE_DIR}/plugins/chunk/chunk.map")
install(TARGETS nacre-chunk LIBRARY DESTINATION "${NACRE_PLUGIN_DIR}")
