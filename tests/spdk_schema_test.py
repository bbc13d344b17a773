#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The table of RPC methods against SPDK's own definition of them, and against what was captured of a
# real SPDK target. SPDK's files stay where they are:
#
#   NACRE_SPDK_SCHEMA    schema/schema.yaml of SPDK's source
#   NACRE_SPDK_SAMPLES   captured exchanges, in the form of src/rpc/testdata/spdk-samples.md
#
# Without one of them the test skips; what the result holds, e2e.spdk_methods checks in any case.

import json
import os
import re
import sys
import unittest

from spdk import RESULT, SAMPLES, SpdkSchema, exchanges, our_methods, result_text

SCHEMA = os.environ.get("NACRE_SPDK_SCHEMA", "")
CAPTURED = os.environ.get("NACRE_SPDK_SAMPLES", "")


def all_differences(spdk, ours):
    return [text for name in ours if name in spdk.methods
            for text in spdk.differences(name, ours[name])]


@unittest.skipUnless(SCHEMA, "NACRE_SPDK_SCHEMA does not name SPDK's schema.yaml")
class methods(unittest.TestCase):
    def test_take_what_spdks_take(self):
        found = all_differences(SpdkSchema(SCHEMA), our_methods())
        self.assertEqual(found, [], "\n".join(found))

    def test_are_as_many_as_the_result_says(self):
        with open(RESULT, encoding="utf-8") as text:
            self.assertEqual(text.read(), result_text(our_methods(), SpdkSchema(SCHEMA).methods),
                             "run tests/spdk_schema_test.py --update")

    def test_a_difference_is_found(self):
        spdk, ours = SpdkSchema(SCHEMA), our_methods()
        changed = json.loads(json.dumps(ours["bdev_raid_create"]))
        changed["parameters"][0]["required"] = False
        changed["parameters"][1]["type"] = "uint64"
        changed["parameters"].append({"name": "bogus", "type": "string", "required": False})
        del changed["parameters"][2]
        self.assertEqual(len(spdk.differences("bdev_raid_create", changed)), 4)


@unittest.skipUnless(CAPTURED, "NACRE_SPDK_SAMPLES does not name captured exchanges")
class samples(unittest.TestCase):
    def test_of_every_method_that_there_is_stand_in_the_tree(self):
        ours, here = our_methods(), set(exchanges(SAMPLES))
        missing = []
        for sent, received in exchanges(CAPTURED):
            found = re.search(r'"method": ?"([a-z0-9_]+)"', sent)
            # SPDK has save_config in its client.
            if not found or found.group(1) not in ours or found.group(1) == "save_config":
                continue
            # SPDK could not change a limit while it still settled the one before; nacre can.
            if "Resource temporarily unavailable" in received:
                continue
            if (sent, received) not in here:
                missing.append(sent)
        self.assertEqual(missing, [])


def update():
    if not SCHEMA:
        sys.exit("NACRE_SPDK_SCHEMA should name SPDK's schema/schema.yaml")
    spdk, ours = SpdkSchema(SCHEMA), our_methods()
    found = all_differences(spdk, ours)
    if found:
        sys.exit("\n".join(found))
    with open(RESULT, "w", encoding="utf-8") as out:
        out.write(result_text(ours, spdk.methods))


if __name__ == "__main__":
    if "--update" in sys.argv:
        update()
        sys.exit(0)
    ran = unittest.main(exit=False).result
    if not ran.wasSuccessful():
        sys.exit(1)
    if ran.skipped:
        print("Skipped: " + ran.skipped[0][1])
        sys.exit(77)
