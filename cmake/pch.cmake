# SPDX-License-Identifier: BSD-3-Clause
#
# A build spends half of its time parsing the standard headers; where that does no harm they are
# parsed once. What is precompiled never changes while one works on nacre, so nothing is built anew
# for it. g++ optimises otherwise with precompiled headers (its budgets rose) and takes code of
# std::string for the user's (its warnings rose): there only tests that are not optimised have them.
# That each public header includes what it needs is checked elsewhere (nacre_headers_alone), and so
# are the sources, by g++, and the tests, in the preset `debug`, which goes without.

option(NACRE_PCH "Precompile the standard headers where that does no harm" ON)

# nacre_pch(NAME HEADERS... LIBS... [OPTIONS...]): headers that nacre_use_pch(TARGET NAME) gives to a
# target, which must be compiled with the same options.
function(nacre_pch name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;LIBS;OPTIONS")
    if(NOT NACRE_PCH)
        return()
    endif()
    set(source "${PROJECT_BINARY_DIR}/pch/${name}.cpp")
    file(CONFIGURE OUTPUT "${source}" CONTENT "// Carries the precompiled headers.\n" @ONLY)
    add_library(${name} OBJECT "${source}")
    target_link_libraries(${name} PRIVATE ${arg_LIBS})
    target_compile_options(${name} PRIVATE ${arg_OPTIONS})
    target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
endfunction()

function(nacre_use_pch target name)
    if(TARGET ${name})
        target_precompile_headers(${target} REUSE_FROM ${name})
    endif()
endfunction()

set(headers
    <fmt/format.h> <algorithm> <array> <atomic> <chrono> <coroutine> <cstdint> <cstring> <expected>
    <functional> <map> <memory> <mutex> <optional> <span> <string> <string_view> <thread> <tuple>
    <type_traits> <utility> <variant> <vector>)
set(libs fmt::fmt spdlog::spdlog)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    nacre_pch(nacre_std_pch HEADERS ${headers} LIBS ${libs})
    if(NACRE_LIBFUZZER)
        nacre_pch(nacre_fuzzed_pch HEADERS ${headers} LIBS ${libs}
                  OPTIONS -fsanitize=fuzzer-no-link)
    endif()
endif()
if(NACRE_TESTS)
    nacre_pch(nacre_test_pch HEADERS ${headers} <gtest/gtest.h> LIBS ${libs} GTest::gtest
              OPTIONS -O0)
endif()
