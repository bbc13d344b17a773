# SPDX-License-Identifier: BSD-3-Clause
#
# How each kind of check becomes a ctest test.

# Sanitizers abort loudly, and valgrind-slow machines still finish.
set(NACRE_TEST_TIMEOUT 120)
if(NACRE_SANITIZE MATCHES thread)
    set(NACRE_TEST_TIMEOUT 600)
endif()
set(NACRE_TEST_ENVIRONMENT
    "ASAN_OPTIONS=abort_on_error=1:detect_stack_use_after_return=1"
    "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
    "TSAN_OPTIONS=halt_on_error=1"
    "NACRE_BINARY=${PROJECT_BINARY_DIR}/nacre"
    "NACRE_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
    "NACRE_BUILD_DIR=${PROJECT_BINARY_DIR}"
    "NACRE_CXX=${CMAKE_CXX_COMPILER}"
    "NACRE_SANITIZE=${NACRE_SANITIZE}")

set(NACRE_TEMPLATE_ROOMS runtime memory)

function(nacre_gtests target label)
    gtest_discover_tests(
        ${target} TEST_PREFIX "${label}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES LABELS "${label}" TIMEOUT ${NACRE_TEST_TIMEOUT} ENVIRONMENT
                   "${NACRE_TEST_ENVIRONMENT}")
    target_compile_definitions(${target} PRIVATE NACRE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    # What is under test is optimised; optimising the tests as well took half of the build. What the
    # lowest rooms have under test is, for the most part, templates: those are tested as they ship.
    if(NACRE_SANITIZE OR NOT label IN_LIST NACRE_TEMPLATE_ROOMS)
        target_compile_options(${target} PRIVATE -O0)
        nacre_use_pch(${target} nacre_test_pch)
    endif()
endfunction()

# nacre_bench(TARGET LABEL LIBS... SOURCES files...): a Google Benchmark program. ctest only checks
# that it still runs; its figures are read by people, and the budgets are counted in bench/.
function(nacre_bench target label)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES")
    add_executable(${target} ${arg_SOURCES})
    target_link_libraries(${target} PRIVATE ${arg_UNPARSED_ARGUMENTS} benchmark::benchmark_main)
    if(NOT NACRE_SANITIZE)
        add_test(NAME bench.${label} COMMAND ${target} --benchmark_min_time=0.0001)
        set_tests_properties(bench.${label} PROPERTIES LABELS bench TIMEOUT 120)
    endif()
endfunction()

# nacre_fuzzer(FILE LIBS...): x_fuzz.cpp defines LLVMFuzzerTestOneInput. Inputs to start from are the
# files of the folder x_corpus beside it, where there is one.
function(nacre_fuzzer source)
    cmake_path(GET source STEM stem)
    cmake_path(GET source PARENT_PATH folder)
    string(REGEX REPLACE "_fuzz$" "" name "${stem}")
    set(target nacre_${stem})
    if(NACRE_LIBFUZZER)
        add_executable(${target} ${source})
        target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
        target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(${target} ${source} "${PROJECT_SOURCE_DIR}/src/core/fuzz_main.cc")
    endif()
    target_link_libraries(${target} PRIVATE ${ARGN})
    # libFuzzer writes what it learns to the first folder; the second is only read.
    set(learned "${PROJECT_BINARY_DIR}/fuzz/${name}")
    file(MAKE_DIRECTORY "${learned}")
    set(corpus "${folder}/${name}_corpus")
    if(NOT EXISTS "${corpus}")
        set(corpus "")
    endif()
    add_test(NAME fuzz.${name} COMMAND ${target} -runs=20000 -seed=1 -max_total_time=20
                                       -timeout=10 ${learned} ${corpus})
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 120 ENVIRONMENT
                                                 "${NACRE_TEST_ENVIRONMENT}")
endfunction()

# nacre_script_test(NAME FILE LABEL [properties]): a python3 program; exit status 77 means skipped.
function(nacre_script_test name file label)
    add_test(NAME ${name} COMMAND ${NACRE_PYTHON} -B "${file}")
    set_tests_properties(
        ${name} PROPERTIES LABELS "${label}" SKIP_RETURN_CODE 77 TIMEOUT 600 ENVIRONMENT
                           "${NACRE_TEST_ENVIRONMENT}" ${ARGN})
endfunction()

# nacre_refuses_to_compile(NAME FILE): FILE says `// refuses: <regular expression>` and must fail to
# compile with a message that matches it; with -DNACRE_CONTROL it must compile, so that the refusal
# is known to come from the one line in question.
function(nacre_refuses_to_compile name file)
    get_property(includes TARGET nacre_core PROPERTY INTERFACE_INCLUDE_DIRECTORIES)
    list(TRANSFORM includes PREPEND -I)
    add_test(NAME compile.${name}
             COMMAND ${NACRE_PYTHON} -B "${PROJECT_SOURCE_DIR}/tests/compile/refuses.py"
                     "${file}" ${CMAKE_CXX_COMPILER} -std=c++23 -fsyntax-only ${includes})
    set_tests_properties(compile.${name} PROPERTIES LABELS compile TIMEOUT 120)
endfunction()

# Every public header is compiled by itself (twice over, so that it may be included again): by its
# own source, whose first include it is (tests/lint/files.py), or else by a file made for that. A
# sanitizer has nothing to say to that.
function(nacre_headers_alone)
    if(NACRE_SANITIZE)
        return()
    endif()
    nacre_sources(headers "${PROJECT_SOURCE_DIR}/include/nacre" ".hpp")
    nacre_sources(module_headers "${PROJECT_SOURCE_DIR}/modules" ".hpp")
    set(units "")
    foreach(header IN LISTS headers module_headers)
        cmake_path(RELATIVE_PATH header BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE path)
        string(REGEX REPLACE "^include/" "" path "${path}")
        string(REGEX REPLACE "^nacre/(.*)hpp$" "src/\\1cpp" source "${path}")
        string(REGEX REPLACE "^modules/(.*)hpp$" "modules/\\1cpp" source "${source}")
        string(REGEX REPLACE "^src/sim/" "sim/" source "${source}")
        if(EXISTS "${PROJECT_SOURCE_DIR}/${source}")
            continue()
        endif()
        set(unit "${PROJECT_BINARY_DIR}/headers/${path}.cpp")
        file(CONFIGURE OUTPUT "${unit}" CONTENT "#include \"${path}\"\n#include \"${path}\"\n" @ONLY)
        list(APPEND units "${unit}")
    endforeach()
    if(units)
        add_library(nacre_headers_alone OBJECT ${units})
        target_compile_options(nacre_headers_alone PRIVATE -O0 -g0)
        target_include_directories(nacre_headers_alone PRIVATE "${PROJECT_SOURCE_DIR}/include"
                                                               "${PROJECT_SOURCE_DIR}")
        # Building all has built it; the test says so by name, and asks again.
        add_test(NAME lint.headers_alone COMMAND ${CMAKE_COMMAND} --build "${PROJECT_BINARY_DIR}"
                                                 --target nacre_headers_alone)
        set_tests_properties(lint.headers_alone PROPERTIES LABELS lint TIMEOUT 600)
    endif()
endfunction()

# examples/*.cpp: one program each, run by ctest.
function(nacre_examples)
    nacre_sources(sources "${PROJECT_SOURCE_DIR}/examples" ".cpp" FLAT)
    foreach(source IN LISTS sources)
        cmake_path(GET source STEM name)
        # glibc runs its callbacks on stacks that are too small for TSan.
        if(name STREQUAL "c_callback" AND NACRE_SANITIZE MATCHES thread)
            continue()
        endif()
        add_executable(example_${name} ${source})
        if(name MATCHES "_test$")
            target_link_libraries(example_${name} PRIVATE nacre_cli GTest::gtest_main)
            nacre_gtests(example_${name} example)
            continue()
        endif()
        target_link_libraries(example_${name} PRIVATE nacre_cli)
        # What ctest types: lines "// ctest: ARGUMENTS" of the source; nothing without one.
        file(STRINGS ${source} arguments REGEX "^// ctest: ")
        list(TRANSFORM arguments REPLACE "^// ctest: " "")
        list(JOIN arguments " " arguments)
        separate_arguments(arguments)
        add_test(NAME example.${name} COMMAND example_${name} ${arguments})
        set_tests_properties(example.${name} PROPERTIES LABELS example TIMEOUT 60 ENVIRONMENT
                                                        "${NACRE_TEST_ENVIRONMENT}")
    endforeach()
endfunction()

# bench/: *_bench.cpp that measure more than one room; budgets.tsv, whose groups are one test each,
# "budgets.<group>", and *_test.py. What is counted is the binary as it ships, so only in a release
# build by g++.
function(nacre_benches)
    set(primitives "${PROJECT_SOURCE_DIR}/src/runtime/primitives_bench.cpp")
    add_executable(nacre_budget_driver "${PROJECT_SOURCE_DIR}/bench/budget_driver.cpp"
                                       "${PROJECT_SOURCE_DIR}/bench/io_primitives.cpp"
                                       "${PROJECT_SOURCE_DIR}/bench/blob_primitives.cpp"
                                       "${primitives}")
    target_link_libraries(nacre_budget_driver PRIVATE nacre_modules nacre_blob)
    nacre_sources(sources "${PROJECT_SOURCE_DIR}/bench" "_bench.cpp" FLAT)
    if(sources)
        nacre_bench(nacre_all_bench all nacre_app nacre_sim SOURCES ${sources})
    endif()
    nacre_sources(scripts "${PROJECT_SOURCE_DIR}/bench" "_test.py" FLAT)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "Release")
        set(table "${PROJECT_SOURCE_DIR}/bench/budgets.tsv")
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${table}")
        file(STRINGS "${table}" rows REGEX "^[a-z]")
        list(TRANSFORM rows REPLACE "\t.*" "")
        list(REMOVE_ITEM rows group)
        list(REMOVE_DUPLICATES rows)
        foreach(group IN LISTS rows)
            add_test(NAME budgets.${group}
                     COMMAND ${NACRE_PYTHON} -B "${PROJECT_SOURCE_DIR}/bench/budgets.py"
                             --build "${PROJECT_BINARY_DIR}" ${group})
            set_tests_properties(budgets.${group} PROPERTIES LABELS budget TIMEOUT 300)
        endforeach()
        foreach(script IN LISTS scripts)
            cmake_path(GET script STEM name)
            string(REGEX REPLACE "_test$" "" name "${name}")
            nacre_script_test(budget.${name} "${script}" budget)
        endforeach()
    endif()
endfunction()
