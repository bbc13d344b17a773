# SPDX-License-Identifier: BSD-3-Clause
#
# What nacre uses of the system. The packages are named in packages/run.txt and packages/test.txt.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(isal REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(uuid REQUIRED IMPORTED_TARGET uuid)
pkg_check_modules(crypto REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing)

if(NACRE_TESTS)
    enable_testing()
    find_package(GTest REQUIRED)
    find_package(benchmark REQUIRED)
    # Debian's own: python3-libnbd is for it.
    find_program(NACRE_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
    find_program(NACRE_PYTHON python3 REQUIRED)
    include(GoogleTest)
endif()
