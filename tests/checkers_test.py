#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The checks that ./test ends with are themselves checked: what was skipped (tests/skips.py) and
# what docs/features.md claims (tests/features.py).

import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import features  # noqa: E402
import skips  # noqa: E402

RESULTS = """<testsuite>
<testcase name="core.uuid.parses" status="run"/>
<testcase name="core.uuid.prints" status="run"/>
<testcase name="world.disk.opens" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION"/>
<system-out>[ RUN ] disk.opens
src/world/disk_test.cpp:7: Skipped
no O_DIRECT here
</system-out></testcase>
<testcase name="core.bytes.adds" status="fail"><failure message=""/></testcase>
</testsuite>"""


class with_results(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.results = self.write("results.xml", RESULTS)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path


class claims(with_results):
    def problems(self, tests, status="working", allowed="# none\n"):
        row = features.Row("a", "source", "title", status, tests)
        leave = skips.allowed_by(self.write("allowed.txt", allowed))
        return list(features.check([row], features.read_results(self.results), leave))

    def test_a_passing_test_shows_a_feature(self):
        for tests in ("core.uuid.parses", "uuid.parses", "uuid.*", "core.uuid.*, uuid.prints"):
            self.assertEqual(self.problems(tests), [], tests)

    def test_a_claim_without_a_test_fails(self):
        self.assertTrue(self.problems(""))

    def test_a_claim_fails_whose_test_is_missing_skipped_or_failing(self):
        for tests in ("uuid.sings", "disk.opens", "bytes.adds", "core.*", "uuid.parses,disk.opens"):
            self.assertTrue(self.problems(tests), tests)

    def test_a_test_that_may_be_skipped_need_not_show_its_feature_everywhere(self):
        leave = "world\\.disk\\..*  not everywhere\n"
        self.assertEqual(self.problems("uuid.parses, disk.opens", allowed=leave), [])
        self.assertTrue(self.problems("bytes.adds", allowed=leave + "core\\..*  never fails\n"))

    def test_a_plan_needs_no_test(self):
        self.assertEqual(self.problems("", "planned issue 3"), [])

    def test_the_committed_table_can_be_read_and_its_page_is_current(self):
        rows, problems = features.read_rows()
        self.assertEqual(problems, [])
        with open(features.PAGE, encoding="utf-8") as page:
            self.assertEqual(page.read(), features.page(rows))


class skipped_tests(with_results):
    def run_skips(self, allowed, *more):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = skips.main([self.write("allowed.txt", allowed), *more, self.results])
        return status, printed.getvalue()

    def test_a_skip_that_nobody_allowed_fails_and_tells_its_reason(self):
        status, printed = self.run_skips("# none\n")
        self.assertEqual(status, 1)
        self.assertIn("no O_DIRECT here", printed)

    def test_an_allowed_skip_is_listed_with_its_reason(self):
        status, printed = self.run_skips("world\\.disk\\..*  not everywhere\n")
        self.assertEqual(status, 0)
        self.assertIn("world.disk.opens", printed)
        self.assertIn("no O_DIRECT here", printed)

    def test_a_whole_preset_that_was_skipped_needs_leave_too(self):
        allowed = "world\\.disk\\..*  not everywhere\n"
        self.assertEqual(self.run_skips(allowed, "--skipped=preset.tsan:old_kernel")[0], 1)
        allowed += "preset\\.tsan  some kernels\n"
        status, printed = self.run_skips(allowed, "--skipped=preset.tsan:old_kernel")
        self.assertEqual(status, 0)
        self.assertIn("preset.tsan: old kernel", printed)


if __name__ == "__main__":
    unittest.main()
