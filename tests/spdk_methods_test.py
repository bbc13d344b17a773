#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Whether docs/spdk-methods.tsv, the result of the comparison with SPDK's schema, is about the
# methods and parameters that there are. Needs nothing of SPDK's.

import unittest

from spdk import OURS, RESULT, our_methods, result_text


class result(unittest.TestCase):
    def test_is_about_the_methods_that_there_are(self):
        with open(RESULT, encoding="utf-8") as text:
            held = text.read()
        head, *rows = held.splitlines()
        methods = our_methods()
        spdk = {row.split("\t")[0] for row in rows if row.split("\t")[1] == "spdk"}
        expected = result_text(methods, spdk).splitlines()
        self.assertEqual(rows, expected[1:],
                         "a method or parameter has changed: run tests/spdk_schema_test.py "
                         "--update with NACRE_SPDK_SCHEMA, and commit docs/spdk-methods.tsv")
        self.assertRegex(head, rf"^# RPC methods: {len(spdk)} of SPDK's \d+, "
                               rf"{len(methods) - len(spdk)} of nacre's own")

    def test_extra_parameters_are_there(self):
        methods = our_methods()
        for name, extra in OURS.items():
            names = {p["name"] for p in methods[name]["parameters"]}
            self.assertLessEqual(set(extra), names, name)


if __name__ == "__main__":
    unittest.main()
