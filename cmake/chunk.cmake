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
