#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The coroutine rule. g++ 12 silently miscompiles co_await inside larger expressions, so it stands
# only where it is known to be right:
#
#   co_await x;                    a whole statement
#   auto name = co_await x;        the whole initialiser or right-hand side of a named variable
#   co_return co_await x;
#
# and never in a condition, an operator, a brace list or the arguments of a call. A lambda with
# captures is no coroutine (its captures die with the lambda, not with the frame), and a coroutine's
# body stands in a .cpp, unless it is a template. Read from the text, without a compiler, so it errs
# where macros or very odd formatting hide a statement. --self-test checks the checker.

import os
import re
import sys

import sources

AWAIT = re.compile(r"\bco_await\b")
COROUTINE_WORD = re.compile(r"\bco_(?:await|return|yield)\b")

# What may stand between the start of a statement and its co_await.
NAME = r"[A-Za-z_][\w:]*(?:<[^;{}()]*>)?"
TARGET = re.compile(
    r"(?:"
    r"|co_return"                                                 # co_return co_await x;
    r"|\(void\)|static_cast<void>\("                              # a result thrown away by will
    rf"|(?:(?:static|const|constexpr|auto|unsigned|typename)\s+)*{NAME}[\s&*]+(?:const\s+)?\w+\s*="
    r"|[\w.\[\]*:\s]*(?:->[\w.\[\]]+)*\s*="                       # name = , member_.x = , *p =
    r")\s*\Z")
# A statement may follow these on the same line or the next: label, else, do, a closed condition.
LEADING = re.compile(r"\A\s*(?:(?:case\b[^:]*(?:::[^:]*)*|default|public|private|protected)"
                     r"\s*:(?!:)\s*"
                     r"|else\b|do\b|\[\[\w+\]\]\s*)*")
CONTROL = re.compile(r"\b(?:if|while|for|switch)\s*(?:constexpr\s*)?\Z")
LAMBDA = re.compile(r"(?<![\w\])])\[([^\[\]]*)\]\s*(?:<[^{};]*?>)?\s*(?:\(|\{|mutable|noexcept|->)")
TEMPLATE = re.compile(r"\btemplate\s*<|\(\s*[^()]*\bauto\b")
OPERATOR = re.compile(r"\boperator\s*\Z")       # a declaration of operator co_await


def open_brackets(code, position):
    """Positions of the brackets ( { [ that are open at `position`, outermost first."""
    stack = []
    for index in range(position):
        char = code[index]
        if char in "({[":
            stack.append(index)
        elif char in ")}]" and stack:
            stack.pop()
    return stack


def matching(code, start):
    """The position of the bracket that closes the one at `start`."""
    depth = 0
    for index in range(start, len(code)):
        if code[index] in "({[":
            depth += 1
        elif code[index] in ")}]":
            depth -= 1
            if depth == 0:
                return index
    return len(code)


def statement_start(code, position):
    """Where the statement begins that `position` is in, past conditions like `if (x)` before it."""
    index = position - 1
    depth = 0
    while index >= 0:
        char = code[index]
        if char in ")]":
            depth += 1
        elif char in "([":
            if depth == 0:
                return index + 1
            depth -= 1
            if depth == 0 and char == "(" and CONTROL.search(code[max(0, index - 24):index]):
                # `if (x) co_await y;`: the statement starts after the condition's bracket.
                return matching(code, index) + 1
        elif depth == 0 and char in ";{}":
            return index + 1
        index -= 1
    return 0


def tail_problem(code, position):
    """What follows co_await in its statement, if an operator makes it part of something larger."""
    index = position + len("co_await")
    begun = False                       # the operand has begun: an operator is now a binary one
    while index < len(code):
        char = code[index]
        if char == ";":
            return None
        if char in ")]}":
            return "stands inside brackets"
        if char in "([{":
            index = matching(code, index) + 1
            begun = True
            continue
        if char == "<" and begun:       # template arguments, unless blanks make it a comparison
            close = re.match(r"<[\w:,&*\s<>]*>(?=\s*[({])", code[index:])
            if close:
                index += close.end()
                continue
        if code.startswith(("->", "::"), index):
            index += 2
            continue
        if begun and char in "&|=!<>+-*/%^?,":
            return f"is an operand of '{char}'"
        begun = begun or not char.isspace() and char not in "*&!~-+"
        index += 1
    return None


def await_problem(code, position):
    start = statement_start(code, position)
    before = LEADING.sub("", code[start:position], count=1)
    opened = open_brackets(code, position)
    inner = code[opened[-1]] if opened else "{"
    if inner == "(":
        head = code[:opened[-1]]
        if CONTROL.search(head[-24:]):
            return "stands in a condition"
        if not re.search(r"static_cast<void>\Z", head):
            return "stands in the arguments of a call, or in brackets"
        return None
    if inner == "[":
        return "stands in a subscript"
    if not TARGET.match(before):
        return "is part of a larger expression"
    if not before.strip() and opened and not is_block(code, opened[-1]):
        return "stands in a brace list"
    return tail_problem(code, position)


def is_block(code, brace):
    """Whether the { at `brace` opens statements: after ) else do try; never after = or a type."""
    before = code[:brace].rstrip()
    if not before or before[-1] in ";{}:":
        return True
    return re.search(r"(\)|\b(else|do|try|const|noexcept|override|final|mutable)"
                     r"|->\s*[\w:<>,&*\s]+|\]|\bnamespace(\s+[\w:]+)?)\Z", before) is not None


def lambda_problems(code):
    for match in LAMBDA.finditer(code):
        if not match.group(1).strip():
            continue
        brace = code.find("{", match.end() - 1)
        # Between the introducer and its body stand only parameters and a return type.
        if brace < 0 or ";" in strip_brackets(code[match.end() - 1:brace]):
            continue
        body = code[brace:matching(code, brace)]
        if COROUTINE_WORD.search(without_lambdas(body[1:])):
            yield match.start(), "a lambda with captures is a coroutine"


def strip_brackets(text):
    while True:
        shorter = re.sub(r"\([^()]*\)", "", text)
        if shorter == text:
            return text
        text = shorter


def without_lambdas(code):
    """The code with the bodies of lambdas in it blanked: their co_await is their own."""
    out = code
    for match in LAMBDA.finditer(code):
        brace = code.find("{", match.end() - 1)
        if brace >= 0:
            end = matching(code, brace)
            out = out[:brace] + " " * (end - brace) + out[end:]
    return out


def header_problems(path, code):
    """Bodies in headers: only templates may have them, and what tests share (test_*.hpp),
    and examples, each of which one program includes."""
    if not path.endswith(".hpp") or os.path.basename(path).startswith("test_") or \
            path.startswith("examples/"):
        return
    for match in COROUTINE_WORD.finditer(code):
        if OPERATOR.search(code, 0, match.start()):
            continue
        blocks = [at for at in open_brackets(code, match.start()) if code[at] == "{"]
        if not any(TEMPLATE.search(head_of(code, block)) for block in blocks):
            yield match.start(), "a coroutine's body stands in a header and is no template"


def head_of(code, brace):
    """What stands before the { at `brace`, back to the end of the declaration before it."""
    return code[max(code.rfind(mark, 0, brace) for mark in ";{}") + 1:brace]


def problems_in(path, text):
    code = sources.blank(text)
    code = re.sub(r"^[ \t]*#.*(?:\\\n.*)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), code,
                  flags=re.MULTILINE)
    found = []
    for match in AWAIT.finditer(code):
        if OPERATOR.search(code, 0, match.start()):
            continue
        problem = await_problem(code, match.start())
        if problem:
            found.append((match.start(), f"co_await {problem}"))
    found += list(lambda_problems(code)) + list(header_problems(path, code))
    return [f"{path}:{sources.line_of(code, where)}: {what}" for where, what in sorted(found)]


def main():
    if "--self-test" in sys.argv:
        import coroutine_samples
        return sources.report(coroutine_samples.check(problems_in))
    problems = []
    for path in sources.code_files():
        text = sources.read(path)
        if "co_" in text and not path.startswith("tests/lint/"):
            problems += problems_in(path, text)
    return sources.report(problems)


if __name__ == "__main__":
    sys.exit(main())
