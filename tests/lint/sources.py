# SPDX-License-Identifier: BSD-3-Clause
#
# What the lint tests share: the source tree, its files, and C++ text without comments and literals.

import os
import re
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED_FOLDERS = {"build", "nacre-data", "__pycache__"}
CODE = (".cpp", ".hpp", ".cc", ".h", ".c")


def files():
    """Paths from the top of every file that git tracks; in a plain copy, of every file there is."""
    listing = subprocess.run(["git", "-c", "safe.directory=*", "-C", TOP, "ls-files", "-z"],
                             capture_output=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        names = listing.stdout.decode().split("\0")[:-1]
        return sorted(name for name in names if os.path.isfile(os.path.join(TOP, name)))
    found = []
    for folder, folders, names in os.walk(TOP):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS
                      and (not f.startswith(".") or f == ".ci")]
        found += [os.path.relpath(os.path.join(folder, name), TOP) for name in names]
    return sorted(found)


def code_files():
    return [path for path in files() if path.endswith(CODE)]


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="replace") as text:
        return text.read()


_UNCODED = re.compile(
    r'//[^\n]*|/\*.*?\*/'                        # comments
    r'|R"([^\s()\\]{0,16})\(.*?\)\1"'            # raw strings
    r'|"(?:[^"\\\n]|\\.)*"'                      # strings
    r"|(?<![0-9A-Fa-f])'(?:[^'\\\n]|\\.)+'",     # characters, but not digit separators
    re.DOTALL)


def blank(text):
    """The text with comments and the insides of literals as spaces; lines stay where they are."""
    def spaces(match):
        kept = match.group(0)
        hidden = re.sub(r"[^\n]", " ", kept)
        return hidden if kept[0] == "/" else '"' + hidden[1:-1] + '"'
    return _UNCODED.sub(spaces, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def report(problems):
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems" if problems else "clean")
    return 1 if problems else 0
