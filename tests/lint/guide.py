#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The C++ that docs/writing-a-module.md shows is code that is built and run: every ```cpp block
# stands, word for word, in a file of examples/. --self-test checks the checker.

import re
import sys

import sources

GUIDE = "docs/writing-a-module.md"


def blocks(text):
    return re.findall(r"^```cpp\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def missing(text, examples):
    """The first lines of blocks that are in no example."""
    return [block.splitlines()[0].strip() for block in blocks(text)
            if not any(block in example for example in examples)]


def self_test():
    text = "words\n```cpp\nint a;\nint b;\n```\n```sh\nls\n```\n```cpp\nint c;\n```\n"
    assert blocks(text) == ["int a;\nint b;\n", "int c;\n"]
    assert missing(text, ["x\nint a;\nint b;\ny", "int c;\n"]) == []
    assert missing(text, ["int a;\n", "int c;\n"]) == ["int a;"]


def main():
    if "--self-test" in sys.argv:
        self_test()
        return 0
    text = sources.read(GUIDE)
    if not blocks(text):
        print(f"{GUIDE}: shows no C++")
        return 1
    examples = [sources.read(path) for path in sources.code_files()
                if path.startswith("examples/")]
    wrong = missing(text, examples)
    for line in wrong:
        print(f"{GUIDE}: in no example: the block that begins with \"{line}\"")
    print("clean" if not wrong else f"{len(wrong)} blocks are not what examples/ builds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
