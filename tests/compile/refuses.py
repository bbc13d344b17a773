#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# refuses.py FILE COMPILER [OPTION...]
#
# FILE holds a line `// refuses: REGULAR_EXPRESSION`, and the forbidden line between
# `#ifndef NACRE_CONTROL` (or its `#else`) and `#endif`. The test passes if compiling FILE fails
# with a message that matches, and every place in FILE that the compiler finds wrong is the
# forbidden one: so the rest compiles. (With -DNACRE_CONTROL it does compile.)

import re
import subprocess
import sys


def main():
    path, command = sys.argv[1], sys.argv[2:]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    expected = re.search(r"^// refuses: (.+)$", text, re.MULTILINE)
    if expected is None:
        print(f"{path}: there is no line '// refuses: REGULAR_EXPRESSION'")
        return 1
    lines = text.split("\n")
    begin = lines.index("#else" if "#else" in lines else "#ifndef NACRE_CONTROL")
    forbidden = range(begin + 1, lines.index("#endif") + 2)

    refused = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    if refused.returncode == 0:
        print(f"{path}: compiles, and should not")
        return 1
    if not re.search(expected.group(1), refused.stderr):
        print(f"{path}: fails, but not with '{expected.group(1)}':\n{refused.stderr}")
        return 1
    found = re.findall(rf"^{re.escape(path)}:(\d+):\d+:(?! note)", refused.stderr, re.MULTILINE)
    places = {int(line) for line in found}
    if not places or not all(line in forbidden for line in places):
        print(f"{path}: not only the forbidden line is refused, but {sorted(places)}:\n"
              f"{refused.stderr}")
        return 1
    print(f"refused as it should be: {expected.group(1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
