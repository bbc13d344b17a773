#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# packages/setup.sh, which ./run and ./test share, on a pretended machine: programs of the same
# names earlier on PATH stand in for dpkg-query, apt-get, sudo, id, cmake and ninja and note how
# they were called.

import os
import shutil
import subprocess
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRETENDED = {
    "dpkg-query": 'case " $INSTALLED " in *" $4 "*) echo installed ;; *) exit 1 ;; esac',
    "id": 'echo "$USER_ID"',
    "sudo": '[ "$MAY_SUDO" = yes ] || exit 1; shift; exec "$@"',
    "apt-get": 'echo "apt-get $*" >>"$CALLS"',
    "cmake": 'echo "cmake $*" >>"$CALLS"; mkdir -p build/release; touch build/release/build.ninja\n'
             'echo "CMAKE_HOME_DIRECTORY:INTERNAL=$(pwd -P)" >build/release/CMakeCache.txt',
    "ninja": 'echo "ninja $*" >>"$CALLS"\n'
             "printf '#!/bin/sh\\necho nacre \"$@\"\\n' >build/release/nacre\n"
             'chmod +x build/release/nacre',
}


class setup(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="nacre setup ")
        self.top = os.path.join(self.folder.name, "source tree")
        self.calls = os.path.join(self.folder.name, "calls")
        bin_folder = os.path.join(self.folder.name, "bin")
        os.makedirs(os.path.join(self.top, "packages"))
        os.makedirs(os.path.join(self.top, "src"))
        os.makedirs(bin_folder)
        for name in ("run", "packages/setup.sh", "packages/chunk.txt", "CMakePresets.json",
                     "CMakeLists.txt"):
            shutil.copy2(os.path.join(TOP, name), os.path.join(self.top, name))
        with open(os.path.join(self.top, "packages/run.txt"), "w", encoding="utf-8") as out:
            out.write("# needed\ncmake\nfoo-dev  # for foo\n")
        for name, body in PRETENDED.items():
            path = os.path.join(bin_folder, name)
            with open(path, "w", encoding="utf-8") as out:
                out.write(f"#!/bin/sh\n{body}\n")
            os.chmod(path, 0o755)
        self.environment = dict(os.environ, PATH=f"{bin_folder}:{os.environ['PATH']}",
                                CALLS=self.calls, USER_ID="1000", MAY_SUDO="no",
                                INSTALLED="cmake foo-dev")

    def tearDown(self):
        self.folder.cleanup()

    def run_it(self, *arguments, **environment):
        return subprocess.run([os.path.join(self.top, "run"), *arguments], capture_output=True,
                              text=True, cwd=self.folder.name, stdin=subprocess.DEVNULL,
                              env=dict(self.environment, **environment), check=False)

    def noted(self):
        if not os.path.exists(self.calls):
            return []
        with open(self.calls, encoding="utf-8") as calls:
            return calls.read().splitlines()

    def test_the_program_gets_the_arguments_and_nothing_else_is_printed(self):
        run = self.run_it("rpc", "a b")
        self.assertEqual((run.returncode, run.stdout), (0, "nacre rpc a b\n"), run.stderr)
        self.assertEqual(self.run_it().stdout, "nacre serve --quickstart\n")

    def test_a_second_call_does_no_work_twice(self):
        self.run_it("perf")
        before = self.noted()
        self.assertEqual([call.split()[0] for call in before], ["cmake", "ninja"])
        run = self.run_it("perf")
        self.assertEqual((self.noted(), run.stderr), (before, ""))

    def test_a_changed_source_is_built_again_and_not_configured_again(self):
        self.run_it("perf")
        stamp = os.path.join(self.top, "build/release/.built-nacre")
        os.utime(stamp, (1, 1))
        self.run_it("perf")
        self.assertEqual([call.split()[0] for call in self.noted()], ["cmake", "ninja", "ninja"])

    def test_a_build_folder_of_another_place_is_made_anew(self):
        self.run_it("perf")
        moved = os.path.join(self.folder.name, "moved")
        os.rename(self.top, moved)
        self.top = moved
        self.assertEqual(self.run_it("perf").stdout, "nacre perf\n")
        self.assertEqual([call.split()[0] for call in self.noted()],
                         ["cmake", "ninja", "cmake", "ninja"])

    def test_what_the_chunk_store_needs_is_installed_and_built_for_it_alone(self):
        self.assertEqual(self.run_it("info").returncode, 0)
        self.assertNotIn("nacre-chunk", " ".join(self.noted()))
        refused = self.run_it("chunk", "ls")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("--no-install-recommends librocksdb-dev", refused.stderr)
        self.assertEqual(self.run_it("chunk", "ls", INSTALLED="librocksdb-dev").stdout,
                         "nacre chunk ls\n")
        self.assertEqual(self.noted()[-1], "ninja -C build/release nacre-chunk")

    def test_an_ordinary_user_is_told_the_exact_line(self):
        run = self.run_it("perf", INSTALLED="cmake")
        self.assertEqual(run.returncode, 1)
        self.assertIn("sudo apt-get update && sudo apt-get install -y --no-install-recommends"
                      " foo-dev", run.stderr)
        self.assertEqual(self.noted(), [])

    def test_root_and_sudo_install_what_is_missing(self):
        for how in ({"USER_ID": "0"}, {"MAY_SUDO": "yes"}):
            if os.path.exists(self.calls):
                os.remove(self.calls)
            shutil.rmtree(os.path.join(self.top, "build"), ignore_errors=True)
            run = self.run_it("perf", INSTALLED="cmake", **how)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(self.noted()[:2],
                             ["apt-get -q update",
                              "apt-get -q install -y --no-install-recommends foo-dev"])


if __name__ == "__main__":
    unittest.main()
