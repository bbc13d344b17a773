#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Every C++ file is as clang-format-19 makes it. `format.py --fix [FILE...]` rewrites those that are
# not; exit status 77 means that clang-format-19 is not installed.

import os
import shutil
import subprocess
import sys

import sources

FORMATTER = "clang-format-19"


def main():
    if shutil.which(FORMATTER) is None:
        print(f"skipped: {FORMATTER} is not installed")
        return 77
    fix = "--fix" in sys.argv
    named = [os.path.relpath(name, sources.TOP) for name in sys.argv[1:] if name != "--fix"]
    paths = [n for n in named if n.endswith(sources.CODE)] or sources.code_files()
    if not paths:
        return sources.report([])
    mode = ["-i"] if fix else ["--dry-run", "-Werror", "--ferror-limit=1"]
    run = subprocess.run([FORMATTER, "--style=file", *mode, *paths], cwd=sources.TOP,
                         capture_output=True, text=True, check=False)
    lines = run.stderr.splitlines()
    wrong = sorted({line.split(":", 1)[0] for line in lines if ": error:" in line})
    if run.returncode != 0 and not wrong:
        wrong = [run.stderr]
    return sources.report([f"{path}: not formatted; tests/lint/format.py --fix does it"
                           for path in wrong])


if __name__ == "__main__":
    sys.exit(main())
