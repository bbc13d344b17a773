#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The installed library as a stranger uses it: `cmake --install` into an empty folder, then a small
# program built against it with nothing else of nacre in sight, once by pkg-config and once by
# find_package.

import os
import shlex
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ.get("NACRE_BUILD_DIR", "")
COMPILER = os.environ.get("NACRE_CXX", "g++")
SANITIZE = os.environ.get("NACRE_SANITIZE", "")
FLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []

PROGRAM = """
#include <string>

#include "nacre/core/error.hpp"

int main() {
    std::string text = nacre::describe(nacre::error::posix(ENOSPC));
    return text.find("ENOSPC") == std::string::npos;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(stranger LANGUAGES CXX)
set(CMAKE_CXX_STANDARD 23)
find_package(nacre 0.1 REQUIRED)
add_executable(stranger stranger.cpp)
target_link_libraries(stranger PRIVATE nacre::nacre)
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


class installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = os.path.join(cls.folder.name, "prefix")
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        cls.source = os.path.join(cls.folder.name, "stranger.cpp")
        for name, text in (("stranger.cpp", PROGRAM), ("CMakeLists.txt", PROJECT)):
            with open(os.path.join(cls.folder.name, name), "w", encoding="utf-8") as out:
                out.write(text)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def find(self, name):
        for folder, _, names in os.walk(self.prefix):
            if name in names:
                return folder
        self.fail(f"{name} is not installed")

    def test_a_program_builds_with_pkg_config_and_runs(self):
        environment = dict(os.environ, PKG_CONFIG_PATH=self.find("nacre.pc"))
        flags = shlex.split(run("pkg-config", "--static", "--cflags", "--libs", "nacre",
                                env=environment))
        program = os.path.join(self.folder.name, "by-pkg-config")
        run(COMPILER, "-std=c++23", *FLAGS, self.source, "-o", program, *flags)
        run(program)

    def test_a_program_builds_with_find_package_and_runs(self):
        build = os.path.join(self.folder.name, "build")
        run("cmake", "-G", "Ninja", "-S", self.folder.name, "-B", build,
            f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_CXX_COMPILER={COMPILER}",
            f"-DCMAKE_CXX_FLAGS={' '.join(FLAGS)}")
        run("cmake", "--build", build)
        run(os.path.join(build, "stranger"))

    def test_the_program_is_there_and_says_its_version(self):
        program = os.path.join(self.prefix, "bin", "nacre")
        self.assertRegex(run(program, "--version"), r"\b\d+\.\d+\.\d+")

    def test_completion_and_manual_are_there(self):
        for name, text in (("nacre.1", ".TH NACRE 1"), ("nacre-rpc.7", "bdev_malloc_create")):
            with open(os.path.join(self.find(name), name), encoding="utf-8") as page:
                self.assertIn(text, page.read())
        completion = os.path.join(self.prefix, "share", "bash-completion", "completions", "nacre")
        run("bash", "-c", 'source "$1" && complete -p nacre', "bash", completion)


if __name__ == "__main__":
    if not BUILD:
        sys.exit("NACRE_BUILD_DIR should name the build's folder")
    unittest.main()
