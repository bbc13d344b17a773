#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# skips.py ALLOWED [--skipped=NAME:REASON]... RESULTS...
#
# Lists what the runs skipped and why, out of ctest's JUnit files, and fails if one of them is not
# in ALLOWED (lines of "REGULAR_EXPRESSION  REASON").

import re
import sys
import xml.etree.ElementTree as xml


def reason_of(case, element):
    """What the test itself said last before it skipped, or ctest's word for it."""
    output = case.findtext("system-out") or ""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        # GoogleTest: "file:line: Skipped" and the message on the next line.
        if line.endswith(": Skipped") and number + 1 < len(lines):
            return lines[number + 1]
    own = [line for line in lines if line.lower().startswith("skipped:")]
    return own[-1][len("skipped:"):].strip() if own else element.get("message") or "no reason given"


def skipped_in(path):
    for case in xml.parse(path).getroot().iter("testcase"):
        element = case.find("skipped")
        if element is not None:
            yield case.get("name"), reason_of(case, element)


def allowed_by(path):
    """Patterns of whole names."""
    with open(path, encoding="utf-8") as lines:
        return [re.compile(line.split(None, 1)[0]) for line in lines
                if line.strip() and not line.startswith("#")]


def main(arguments):
    allowed, rest = arguments[0], arguments[1:]
    patterns = allowed_by(allowed)
    skips = []
    for argument in rest:
        if argument.startswith("--skipped="):
            name, reason = argument[len("--skipped="):].split(":", 1)
            skips.append((name, reason.replace("_", " "), ""))
        else:
            preset = argument.split("/")[-2] if "/" in argument else ""
            skips += [(name, reason, preset) for name, reason in skipped_in(argument)]
    refused = 0
    print(f"Skipped: {len(skips) or 'nothing'}")
    for name, reason, preset in skips:
        known = any(pattern.fullmatch(name) for pattern in patterns)
        refused += not known
        where = f" ({preset})" if preset else ""
        print(f"  {name}{where}: {reason}" + ("" if known else f"  -- NOT in {allowed}"))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
