#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# refuses.py FILE COMPILER [OPTION...]
#
# FILE holds a line `// refuses: REGULAR_EXPRESSION`. The test passes if compiling FILE fails with a
# message that matches, and compiling it with -DNACRE_CONTROL, which leaves the forbidden line out,
# succeeds.

import re
import subprocess
import sys


def main():
    path, command = sys.argv[1], sys.argv[2:]
    with open(path, encoding="utf-8") as text:
        expected = re.search(r"^// refuses: (.+)$", text.read(), re.MULTILINE)
    if expected is None:
        print(f"{path}: there is no line '// refuses: REGULAR_EXPRESSION'")
        return 1

    control = subprocess.run([*command, "-DNACRE_CONTROL", path], capture_output=True, text=True,
                             check=False)
    if control.returncode != 0:
        print(f"{path}: does not compile with -DNACRE_CONTROL either:\n{control.stderr}")
        return 1
    refused = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    if refused.returncode == 0:
        print(f"{path}: compiles, and should not")
        return 1
    if not re.search(expected.group(1), refused.stderr):
        print(f"{path}: fails, but not with '{expected.group(1)}':\n{refused.stderr}")
        return 1
    print(f"refused as it should be: {expected.group(1)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
