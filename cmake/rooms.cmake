# SPDX-License-Identifier: BSD-3-Clause
#
# A room is a folder. `nacre_room(NAME [FOLDER f] [DEPENDS rooms] [LIBS targets] [TEST_DEPENDS rooms])`
# makes of src/NAME (or f), searched with its subfolders:
#
#   *_test.cpp    nacre_NAME_tests    GoogleTest; every test is a ctest test "NAME.suite.test"
#   *_bench.cpp   nacre_NAME_bench    Google Benchmark; ctest runs it once, shortly
#   *_fuzz.cpp    its own program     ctest test "fuzz.x", a bounded number of inputs
#   main.cpp      nobody's            nacre_program links it
#   other *.cpp   nacre_NAME          a static library; header-only while there is none
#
# A new file is picked up by the next build. A folder that does not exist yet is an empty room.

set(NACRE_ROOMS "" CACHE INTERNAL "rooms that have sources")

# nacre_sources(OUT FOLDER SUFFIX [FLAT]): the files of FOLDER whose names end in SUFFIX.
function(nacre_sources out folder suffix)
    if("${ARGN}" STREQUAL "FLAT")
        file(GLOB found CONFIGURE_DEPENDS "${folder}/*${suffix}")
    else()
        file(GLOB_RECURSE found CONFIGURE_DEPENDS "${folder}/*${suffix}")
    endif()
    set(${out} "${found}" PARENT_SCOPE)
endfunction()

# The library of a room, out of the *.cpp that are not tests, benchmarks, fuzz targets or main.
function(nacre_room_library target folder depth)
    nacre_sources(sources "${folder}" ".cpp" ${depth})
    list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz|/main)\\.cpp$")
    if(sources)
        add_library(${target} STATIC ${sources})
        nacre_sources(fuzzers "${folder}" "_fuzz.cpp" ${depth})
        if(fuzzers AND NACRE_LIBFUZZER)
            target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
            nacre_use_pch(${target} nacre_fuzzed_pch)
        else()
            nacre_use_pch(${target} nacre_std_pch)
        endif()
        set(scope PUBLIC)
        set(rooms ${NACRE_ROOMS} ${target})
        set(NACRE_ROOMS "${rooms}" CACHE INTERNAL "rooms that have sources")
    else()
        add_library(${target} INTERFACE)
        set(scope INTERFACE)
    endif()
    # The top is searched for "modules/<m>/<m>.hpp"; private headers are found beside their user.
    target_include_directories(${target} ${scope} "${PROJECT_SOURCE_DIR}/include"
                                                  "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${target} ${scope} ${ARGN})
endfunction()

function(nacre_room_programs target label folder depth)
    if(NOT NACRE_TESTS)
        return()
    endif()
    nacre_sources(tests "${folder}" "_test.cpp" ${depth})
    nacre_sources(benches "${folder}" "_bench.cpp" ${depth})
    nacre_sources(fuzzers "${folder}" "_fuzz.cpp" ${depth})
    if(tests)
        add_executable(${target}_tests ${tests})
        target_link_libraries(${target}_tests PRIVATE ${target} ${ARGN} GTest::gtest_main
                                                      GTest::gmock)
        nacre_gtests(${target}_tests ${label})
    endif()
    if(benches)
        nacre_bench(${target}_bench ${label} ${target} ${ARGN} SOURCES ${benches})
    endif()
    foreach(source IN LISTS fuzzers)
        nacre_fuzzer(${source} ${target} ${ARGN})
    endforeach()
endfunction()

function(nacre_room name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "FOLDER" "DEPENDS;LIBS;TEST_DEPENDS")
    if(NOT arg_FOLDER)
        set(arg_FOLDER "src/${name}")
    endif()
    set(folder "${PROJECT_SOURCE_DIR}/${arg_FOLDER}")
    list(TRANSFORM arg_DEPENDS PREPEND nacre_)
    list(TRANSFORM arg_TEST_DEPENDS PREPEND nacre_)
    nacre_room_library(nacre_${name} "${folder}" DEEP ${arg_DEPENDS} ${arg_LIBS})
    nacre_room_programs(nacre_${name} ${name} "${folder}" DEEP ${arg_TEST_DEPENDS})
endfunction()

# Every folder of modules/ is a module, nacre_module_<folder>; modules/*.cpp, the table of them, is
# nacre_modules. A module's tests may use all the others and the simulator.
function(nacre_modules)
    cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "DEPENDS")
    list(TRANSFORM arg_DEPENDS PREPEND nacre_)
    file(GLOB entries LIST_DIRECTORIES true CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/modules/*")
    set(all "")
    set(names "")
    foreach(folder IN LISTS entries)
        if(IS_DIRECTORY "${folder}")
            cmake_path(GET folder FILENAME name)
            nacre_room_library(nacre_module_${name} "${folder}" DEEP ${arg_DEPENDS})
            # A layer's base is seldom of its own kind, which is the only one that g++ sees there.
            get_target_property(kind nacre_module_${name} TYPE)
            if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND kind STREQUAL "STATIC_LIBRARY")
                target_compile_options(nacre_module_${name}
                                       PRIVATE -fno-devirtualize-speculatively)
            endif()
            list(APPEND all nacre_module_${name})
            list(APPEND names ${name})
        endif()
    endforeach()
    set(top "${PROJECT_SOURCE_DIR}/modules")
    nacre_room_library(nacre_modules "${top}" FLAT ${arg_DEPENDS} ${all})
    nacre_room_programs(nacre_modules modules "${top}" FLAT nacre_sim)
    foreach(name IN LISTS names)
        nacre_room_programs(nacre_module_${name} ${name} "${top}/${name}" DEEP nacre_modules
                            nacre_sim)
    endforeach()
endfunction()

# nacre_program(NAME FROM ROOM): src/ROOM/main.cpp linked with the room.
function(nacre_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "FROM" "")
    file(GLOB source CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${arg_FROM}/main.cpp")
    if(source)
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE nacre_${arg_FROM})
        set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
    endif()
endfunction()
