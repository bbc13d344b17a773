# SPDX-License-Identifier: BSD-3-Clause
#
# Statements that the coroutine rule accepts and refuses; each stands in the body of a coroutine.

GOOD = """
co_await x;
co_await f(a, b);
co_await channel.read(lba(3), buffers);
co_await std::move(task);
co_await *pointer;
co_await g<int, T>(x);
co_return co_await x;
(void)co_await x;
auto r = co_await f(a);
auto& r = co_await f(a);
const auto status = co_await f(a);
result<int> r = co_await f(a);
std::expected<std::vector<int>, error> r = co_await f({1, 2}, x ? y : z);
const std::uint64_t* value = co_await f(a);
r = co_await f(a);
this->total_ = co_await f(a);
state_.last = co_await f(a);
*out = co_await f(a);
table[3] = co_await f(a);
if (ready) co_await f(a);
if (ready && (a || b)) r = co_await f(a);
if (ready) co_return co_await f(a);
if (ready) { co_await f(a); }
if (ready) { co_await f(a); } else { co_await g(a); }
if (ready) co_await f(); else co_await g();
else co_await g();
for (int i = 0; i < 3; ++i) co_await f(i);
for (auto& x : xs) { r = co_await f(x); }
while (going) co_await f();
do { co_await f(); } while (going);
switch (x) { case 1: co_await f(); break; default: co_await g(); }
switch (x) { case mode::on: r = co_await f(); break; }
auto f = [](int a) -> task<int> { co_return co_await g(a); };
auto f = [](channel& c, int a) -> task<> { co_await c.send(a); };
auto f = [&](int a) { return a; }; co_await g(f);
spawn([&] { flag = true; }); co_await done;
auto r = co_await f(a < b, c == d);
// if (co_await x)
log("if (co_await x)");
{ co_await f(); }
auto [a, b] = pair; co_await f(a);
array[i] = 3; co_await f();
auto r = co_await table[3].read();
auto r = co_await (*self)->read();
[[maybe_unused]] auto r = co_await f();
"""

BAD = """
if (co_await x) {}
if (!co_await x) {}
if (auto r = co_await x; r) {}
if (auto r = co_await x) {}
while (co_await next()) {}
while ((r = co_await next())) {}
do {} while (co_await next());
switch (co_await x) {}
for (auto r = co_await x; r; ) {}
for (auto& x : co_await xs()) {}
auto r = a && co_await b;
auto r = co_await a && b;
auto r = co_await a + 1;
auto r = 1 + co_await a;
auto r = (co_await a).value();
auto r = co_await a ? b : c;
auto r = c ? co_await a : co_await b;
auto r = f(co_await a);
auto r = std::move(co_await a);
f(a, co_await b);
co_await f(co_await g());
co_return f(co_await a);
co_return 1 + co_await a;
co_return co_await a == b;
co_return !co_await a;
co_return pair{co_await a, 2};
point p{co_await a, 2};
point p = {co_await a, 2};
auto r = point{co_await a};
int r{co_await a};
int r(co_await a);
r += co_await a;
total_ -= co_await a;
table[co_await a] = 3;
(co_await a).run();
*(co_await a) = 3;
a = b = co_await c, d;
return_value(co_await a);
auto [a, b] = co_await c;
throw co_await a;
co_yield co_await a;
EXPECT_EQ(co_await a, 3);
ASSERT_TRUE((co_await a).has_value());
auto f = [&]() -> task<int> { co_return 1; };
auto f = [x](int a) -> task<> { co_await g(a, x); };
spawn([this]() -> task<> { co_await run(); });
spawn([self = ptr] { co_return; });
"""

GOOD_HEADERS = [
    "template <typename T>\ntask<T> f(T x) { co_return co_await g(x); }\n",
    "struct a {\n    template <typename T>\n    task<T> f(T x) { co_await g(x); }\n};\n",
    "// co_await is what callers do.\nint f();\n",
    "struct x {\n    awaiter operator co_await() noexcept { return {}; }\n};\n",
]
BAD_HEADERS = [
    "inline task<int> f(int x) { co_return co_await g(x); }\n",
    "struct a {\n    task<> f() {\n        co_await g();\n    }\n};\n",
]


def body(statement):
    return f"task<int> f(int a) {{\n    int local = 0;\n    {statement}\n    co_return 0;\n}}\n"


def check(problems_in):
    """Sentences about samples that the given checker judges wrongly."""
    wrong = []
    for sample in GOOD.strip().split("\n"):
        found = problems_in("a.cpp", body(sample))
        if found:
            wrong.append(f"refused, but good: {sample}\n    {found}")
    for sample in BAD.strip().split("\n"):
        if not problems_in("a.cpp", body(sample)):
            wrong.append(f"accepted, but bad: {sample}")
    wrong += [f"refused, but good: {s}{problems_in('a.hpp', s)}" for s in GOOD_HEADERS
              if problems_in("a.hpp", s)]
    wrong += [f"accepted, but bad: {s}" for s in BAD_HEADERS if not problems_in("a.hpp", s)]
    return wrong
