#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What the repository promises to those who clone it: its presets, its documents and their links,
# and that ./test and .ci/run fail when they should. For the last, programs of the same names
# earlier on PATH stand in for dpkg-query, cmake, ninja, ctest and clang++-19.

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "lint"))
import sources  # noqa: E402

PRETENDED = {
    "dpkg-query": "echo installed",
    "cmake": 'shift; mkdir -p "build/$1"; touch "build/$1/build.ninja"\n'
             'echo "CMAKE_HOME_DIRECTORY:INTERNAL=$(pwd -P)" >"build/$1/CMakeCache.txt"\n'
             'echo NACRE_TESTS:BOOL=ON >>"build/$1/CMakeCache.txt"',
    "ninja": ":",
    # Notes its arguments, writes the results it was told to, and fails if told to.
    "ctest": 'echo "$*" >>"$CALLS"\n'
             'while [ "$1" != --output-junit ]; do shift; done\n'
             'printf "<testsuite>%s</testsuite>" "$RESULTS" >"$2"\n'
             'echo "100% tests passed, 0 tests failed out of 1"\n'
             'case "$2" in *"/${FAILING:-none}/"*) exit 8 ;; esac',
    "clang++-19": "exit 1",     # so ThreadSanitizer does not start
}
SKIPPED = '<testcase name="bdev.raw.opens" status="notrun"><skipped message="no"/></testcase>'


class documents(unittest.TestCase):
    def test_the_documents_are_there(self):
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE",
                     "docs/architecture.md", "docs/features.md"):
            self.assertTrue(os.path.getsize(os.path.join(TOP, name)) > 100, name)

    def test_every_link_to_a_file_of_the_tree_leads_somewhere(self):
        dead = []
        for path in sources.files():
            if not path.endswith(".md"):
                continue
            text = re.sub(r"^```.*?^```", "", sources.read(path), flags=re.DOTALL | re.MULTILINE)
            for target in re.findall(r"\]\(\s*([^)\s#]+)[^)]*\)", text):
                here = os.path.join(TOP, os.path.dirname(path), target)
                if not re.match(r"\w+:", target) and not os.path.exists(here):
                    dead.append(f"{path}: {target}")
        self.assertEqual(dead, [])

    def test_cmake_knows_the_presets(self):
        listed = subprocess.run(["cmake", "--list-presets"], cwd=TOP, capture_output=True,
                                text=True, check=True).stdout
        for name in ("release", "debug", "clang", "asan", "tsan"):
            self.assertIn(f'"{name}"', listed)


class scripts(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="nacre scripts ")
        self.top = os.path.join(self.folder.name, "source tree")
        self.calls = os.path.join(self.folder.name, "calls")
        bin_folder = os.path.join(self.folder.name, "bin")
        os.makedirs(os.path.join(self.top, "tests"))
        os.makedirs(bin_folder)
        for name in ("test", "packages", ".ci", "docs", "CMakePresets.json", "CMakeLists.txt",
                     "tests/features.py", "tests/skips.py", "tests/allowed-skips.txt"):
            source, target = os.path.join(TOP, name), os.path.join(self.top, name)
            (shutil.copytree if os.path.isdir(source) else shutil.copy2)(source, target)
        # Of the features, only one claim.
        with open(os.path.join(self.top, "docs/features.tsv"), "w", encoding="utf-8") as out:
            out.write("id\tsource\ttitle\tstatus\ttests\na\tissue\tA\tworking\tcore.a.works\n")
        subprocess.run([os.path.join(self.top, "tests/features.py")], check=True)
        for name, body in PRETENDED.items():
            path = os.path.join(bin_folder, name)
            with open(path, "w", encoding="utf-8") as out:
                out.write(f"#!/bin/sh\n{body}\n")
            os.chmod(path, 0o755)
        self.environment = dict(os.environ, PATH=f"{bin_folder}:{os.environ['PATH']}",
                                CALLS=self.calls,
                                RESULTS='<testcase name="core.a.works" status="run"/>')

    def tearDown(self):
        self.folder.cleanup()

    def run_it(self, script, *arguments, **environment):
        return subprocess.run([os.path.join(self.top, script), *arguments], capture_output=True,
                              text=True, cwd=self.folder.name, stdin=subprocess.DEVNULL,
                              env=dict(self.environment, **environment), check=False)

    def presets_tested(self):
        with open(self.calls, encoding="utf-8") as calls:
            return [line.split()[1].removeprefix("build/") for line in calls]

    def test_test_passes_and_says_that_nothing_was_skipped(self):
        run = self.run_it("test")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("Skipped: nothing", run.stdout)
        self.assertEqual(self.presets_tested(), ["release"])

    def test_test_fails_if_a_test_fails_or_is_skipped_without_leave(self):
        self.assertEqual(self.run_it("test", FAILING="release").returncode, 1)
        results = self.environment["RESULTS"] + SKIPPED
        run = self.run_it("test", RESULTS=results)
        self.assertEqual(run.returncode, 1)
        self.assertIn("bdev.raw.opens", run.stdout)

    def test_test_fails_if_a_claimed_feature_was_not_shown(self):
        run = self.run_it("test", RESULTS='<testcase name="core.b.works" status="run"/>')
        self.assertEqual(run.returncode, 1)
        self.assertIn("there is no test core.a.works", run.stdout)

    def test_long_runs_every_preset_and_says_that_tsan_does_not_start(self):
        run = self.run_it("test", "--long")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.presets_tested(), ["release", "debug", "clang", "asan"])
        self.assertIn("preset.tsan: an empty program does not start", run.stdout)

    def test_ci_runs_release_and_asan_and_ends_with_the_closing_lines(self):
        run = self.run_it(".ci/run")
        self.assertEqual(run.returncode, 0, run.stdout)
        self.assertEqual(self.presets_tested(), ["release", "asan"])
        self.assertIn("100% tests passed, 0 tests failed", "".join(run.stdout.splitlines()[-10:]))

    def test_ci_fails_if_either_fails(self):
        for preset in ("release", "asan"):
            self.assertEqual(self.run_it(".ci/run", FAILING=preset).returncode, 1, preset)


if __name__ == "__main__":
    unittest.main()
