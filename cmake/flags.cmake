# SPDX-License-Identifier: BSD-3-Clause
#
# The language, the warnings and the few code generation flags that every file of nacre has.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()

# Line tables are enough to read a profile or a stack; they keep the build small and quick.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
if(NACRE_SANITIZE)
    set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1 -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS")
else()
    set(CMAKE_CXX_FLAGS_DEBUG "-Og -g -D_GLIBCXX_ASSERTIONS")
endif()

find_program(NACRE_CCACHE ccache)
if(NACRE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    # Compiled results are shared between checkouts in different folders. What a result depends on
    # is read from the compiler's own list: preprocessing every file for that took a quarter of a
    # first build. What is sloppy is only what ccache asks for before it caches anything that uses
    # precompiled headers.
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
        CCACHE_DEPEND=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${NACRE_CCACHE})
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
                    -fno-plt -fdiagnostics-color=auto)
if(NACRE_WERROR)
    add_compile_options(-Werror)
endif()
# Names of files in assertions and debug information start at the top of the source tree.
add_compile_options(-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=
                    -ffile-prefix-map=${PROJECT_BINARY_DIR}=build)
add_compile_definitions(NACRE_VERSION="${PROJECT_VERSION}")

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ makes symmetric transfer between coroutines only as this optimisation; without it a long
    # chain of awaits overflows the stack.
    add_compile_options(-foptimize-sibling-calls)
    # Lets ccache see that precompiled headers are used, and which.
    add_compile_options(-fpch-preprocess)
    # Known false positives of g++ 12 in std::string and in coroutine frames (GCC 105651, 105562).
    add_compile_options(-Wno-restrict -Wno-maybe-uninitialized)
else()
    add_compile_options(-Wno-gnu-zero-variadic-macro-arguments)
    add_link_options(-fuse-ld=lld)
endif()

if(NACRE_SANITIZE)
    add_compile_options(-fsanitize=${NACRE_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${NACRE_SANITIZE})
endif()

# libFuzzer needs the code under test instrumented, and clang with AddressSanitizer to be of use.
# Every other build replays and mutates with the small driver src/core/fuzz_main.cc.
set(NACRE_LIBFUZZER OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND NACRE_SANITIZE MATCHES "address")
    set(NACRE_LIBFUZZER ON)
endif()
