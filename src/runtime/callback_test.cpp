// SPDX-License-Identifier: BSD-3-Clause
//
// callback.hpp and oneshot.hpp, against a C library with every habit that such libraries have.
#include "nacre/runtime/callback.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t ms = 1'000'000;

// The library: keeps one request until somebody answers it.
struct c_library {
    using c_callback = void (*)(void* context, int status);
    int refuse_with = 0;
    bool answer_at_once = false;
    bool answers_cancel_at_once = false;
    c_callback callback = nullptr;
    void* context = nullptr;
    int submitted = 0, cancelled = 0;

    int submit(c_callback f, void* c) {
        ++submitted;
        if (refuse_with != 0) return refuse_with;
        if (answer_at_once) {
            f(c, 11);
            return 0;
        }
        callback = f;
        context = c;
        return 0;
    }
    void answer(int status) { std::exchange(callback, nullptr)(context, status); }
    void cancel() {
        ++cancelled;
        if (answers_cancel_at_once) answer(-ECANCELED);
    }
};

void trampoline(void* context, int status) { callback_token<int>::from(context).complete(status); }

task<result<int>> call(c_library* library) {
    result<int> r = co_await from_callback<int>(
        [&](callback_token<int>& token) { return library->submit(trampoline, token.context()); });
    co_return r;
}

task<result<>> answer_after(c_library* library, std::uint64_t ns, int status) {
    result<> slept = co_await sleep_for(ns);
    library->answer(status);
    co_return slept;
}

task<result<int>> call_and_be_answered(c_library* library) {
    scope children;
    children.spawn(answer_after(library, 5 * ms, 33));
    result<int> r = co_await call(library);
    result<> joined = co_await children.join();
    if (!joined) co_return fail(joined.error());
    co_return r;
}

TEST(callback, that_comes_late_resumes_with_its_value) {
    stepped_runtime r;
    c_library library;
    EXPECT_EQ(*r.run(call_and_be_answered, &library), 33);
    EXPECT_GE(r.w.now, stepped_world::start_ns + 5 * ms);
}

TEST(callback, that_comes_before_submit_returns_does_not_suspend) {
    stepped_runtime r;
    c_library library;
    library.answer_at_once = true;
    EXPECT_EQ(*r.run(call, &library), 11);
}

TEST(callback, that_will_never_come_because_submit_refused_gives_its_errno) {
    stepped_runtime r;
    c_library library;
    library.refuse_with = EBUSY;
    EXPECT_TRUE(r.run(call, &library).error().is(EBUSY));
    library.refuse_with = -ENOMEM;
    EXPECT_TRUE(r.run(call, &library).error().is(ENOMEM));
}

task<result<int>> bounded_call(c_library* library) {
    auto r = co_await with_timeout(call(library), 1 * ms);
    co_return r;
}

task<result<int>> time_out_and_be_answered(c_library* library) {
    scope children;
    children.spawn(answer_after(library, 5 * ms, 33));
    result<int> r = co_await bounded_call(library);
    result<> joined = co_await children.join();
    if (!joined) co_return fail(joined.error());
    co_return r;
}

TEST(callback, of_a_library_that_cannot_cancel_is_awaited_after_a_stop) {
    stepped_runtime r;
    c_library library;
    EXPECT_EQ(*r.run(time_out_and_be_answered, &library), 33);
}

task<result<int>> call_cancellable(c_library* library) {
    result<int> r = co_await from_callback<int>(
        [&](callback_token<int>& token) { return library->submit(trampoline, token.context()); },
        [&](callback_token<int>&) { library->cancel(); });
    co_return r;
}

task<result<int>> cancel_and_be_answered(c_library* library, std::uint64_t answer_ns) {
    scope children;
    if (answer_ns != 0) children.spawn(answer_after(library, answer_ns, -ECANCELED));
    auto r = co_await with_timeout(call_cancellable(library), 1 * ms);
    result<> joined = co_await children.join();
    if (!joined) co_return fail(joined.error());
    co_return r;
}

TEST(callback, is_asked_for_by_cancel_and_then_awaited) {
    stepped_runtime r;
    c_library library;
    EXPECT_EQ(*r.run(cancel_and_be_answered, &library, 5 * ms), -ECANCELED);
    EXPECT_EQ(library.cancelled, 1);
    EXPECT_GE(r.w.now, stepped_world::start_ns + 5 * ms);
}

TEST(callback, may_come_from_within_cancel) {
    stepped_runtime r;
    c_library library;
    library.answers_cancel_at_once = true;
    EXPECT_EQ(*r.run(cancel_and_be_answered, &library, std::uint64_t{0}), -ECANCELED);
    EXPECT_EQ(library.cancelled, 1);
}

task<result<>> call_stopped(c_library* library) {
    auto r = co_await call_cancellable(library);
    if (r) co_return {};
    co_return fail(r.error());
}

task<result<>> spawn_into_a_stopped_scope(c_library* library) {
    scope children;
    children.request_stop();
    children.spawn(call_stopped(library));
    result<> joined = co_await children.join();
    co_return joined;
}

TEST(callback, is_not_submitted_by_a_task_that_was_asked_to_stop) {
    stepped_runtime r;
    c_library library;
    EXPECT_TRUE(r.run(spawn_into_a_stopped_scope, &library).error().is(ECANCELED));
    EXPECT_EQ(library.submitted, 0);
}

// Detaching.

using shared_text = std::shared_ptr<std::string>;

struct text_library {
    callback_token<shared_text>* token = nullptr;
    int refuse_with = 0;
};

task<result<shared_text>> call_detachable(text_library* library) {
    result<shared_text> r =
        co_await from_callback_or_detach<shared_text>([&](callback_token<shared_text>& token) {
            library->token = &token;
            return library->refuse_with;
        });
    co_return r;
}

task<result<>> answer_text(text_library* library, shared_text text, std::uint64_t ns) {
    result<> slept = co_await sleep_for(ns);
    library->token->complete(std::move(text));
    co_return slept;
}

task<result<shared_text>> detach_or_not(text_library* library, shared_text text,
                                        std::uint64_t answer_ns, std::uint64_t* ended) {
    scope children;
    if (answer_ns != 0) children.spawn(answer_text(library, text, answer_ns));
    auto r = co_await with_timeout(call_detachable(library), 2 * ms);
    *ended = thread::current()->now_ns();
    result<> joined = co_await children.join();
    if (!joined) co_return fail(joined.error());
    co_return r;
}

TEST(callback, that_can_detach_gives_its_value_in_time) {
    stepped_runtime r;
    text_library library;
    std::uint64_t ended = 0;
    auto text = std::make_shared<std::string>("kept");
    const auto got = r.run(detach_or_not, &library, text, 1 * ms, &ended);
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(**got, "kept");
}

TEST(callback, that_detached_comes_late_into_memory_that_is_still_there) {
    stepped_runtime r;
    text_library library;
    std::uint64_t ended = 0;
    auto text = std::make_shared<std::string>("dropped");
    const auto got = r.run(detach_or_not, &library, text, 50 * ms, &ended);
    EXPECT_TRUE(got.error().is(ETIMEDOUT));
    EXPECT_LT(ended, stepped_world::start_ns + 3 * ms);  // long before the answer
    EXPECT_GE(r.w.now, stepped_world::start_ns + 50 * ms);
    EXPECT_EQ(text.use_count(), 1);
}

TEST(callback, that_can_detach_may_be_refused_and_may_lack_memory) {
    stepped_runtime r;
    text_library library;
    library.refuse_with = -EBUSY;
    EXPECT_TRUE(r.run(call_detachable, &library).error().is(EBUSY));
    library.refuse_with = 0;
    frame_pool::fail_nth_allocation(2);  // 1 is the coroutine's frame
    EXPECT_TRUE(r.run(call_detachable, &library).error().is(ENOMEM));
    EXPECT_TRUE(frame_pool::injected_failure_happened());
    frame_pool::fail_nth_allocation(0);
}

task<void> answer_as_the_runtime_ends(text_library* library) {
    result<> slept = co_await sleep_for(1000 * ms);  // cancelled at once: the exit has begun
    (void)slept;
    library->token->complete(std::make_shared<std::string>("last"));
}

task<void> detach_and_leave(text_library* library) {
    (void)thread::current()->spawn(
        [](across<text_library> l) { return answer_as_the_runtime_ends(&*l); }, across(*library));
    auto r = co_await with_timeout(call_detachable(library), 1 * ms);
    (void)r;
}

TEST(callback, that_detached_is_waited_for_by_the_exit_of_its_thread) {
    text_library library;
    {
        stepped_runtime r;
        r.run(detach_and_leave, &library);
    }
    EXPECT_NE(library.token, nullptr);  // and ASan saw no leak and no use after free
}

// From another OS thread.

task<result<int>> call_foreign(std::thread* foreign) {
    result<int> r = co_await from_callback<int>([&](callback_token<int>& token) {
        *foreign = std::thread([&token] { token.complete_from_any_thread(77); });
        return 0;
    });
    co_return r;
}

TEST(callback, may_come_from_a_foreign_os_thread) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    for (int i = 0; i < 100; ++i) {
        std::thread foreign;
        EXPECT_EQ(*(*rt)->block_on(call_foreign, &foreign), 77);
        foreign.join();
    }
}

task<result<int>> call_foreign_result(std::thread* foreign) {
    result<int> r = co_await from_callback<result<int>>([&](callback_token<result<int>>& token) {
        // Before submit returns, as far as anybody can tell.
        *foreign = std::thread([&token] { token.complete_from_any_thread(fail(EIO)); });
        foreign->join();
        return 0;
    });
    co_return r;
}

TEST(callback, of_a_result_gives_that_result) {
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt.has_value());
    std::thread foreign;
    EXPECT_TRUE((*rt)->block_on(call_foreign_result, &foreign).error().is(EIO));
}

// oneshot

task<result<>> set_oneshot(oneshot<std::unique_ptr<int>>* o, std::uint64_t ns) {
    result<> slept = co_await sleep_for(ns);
    o->set(std::make_unique<int>(5));
    co_return slept;
}

task<result<int>> wait_oneshot(std::uint64_t set_ns) {
    oneshot<std::unique_ptr<int>> o;
    scope children;
    if (set_ns == 0)
        o.set(std::make_unique<int>(5));
    else
        children.spawn(set_oneshot(&o, set_ns));
    auto r = co_await o.wait();
    result<> joined = co_await children.join();
    if (!joined || !r) co_return fail(EPROTO);
    co_return **r;
}

TEST(oneshot, hands_over_its_value_before_or_after_the_wait) {
    stepped_runtime r;
    EXPECT_EQ(*r.run(wait_oneshot, std::uint64_t{0}), 5);
    EXPECT_EQ(*r.run(wait_oneshot, 3 * ms), 5);
}

task<result<int>> wait_for(oneshot<result<int>>* o) {
    result<int> r = co_await o->wait();
    co_return r;
}

task<result<int>> give_up_and_wait_again() {
    oneshot<result<int>> o;
    auto first = co_await with_timeout(wait_for(&o), 1 * ms);
    if (first || !first.error().is(ETIMEDOUT)) co_return fail(EPROTO);
    o.set(fail(ENXIO));
    auto second = co_await o.wait();
    co_return second;
}

TEST(oneshot, keeps_its_value_for_a_second_wait_after_a_cancelled_one) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(give_up_and_wait_again).error().is(ENXIO));
}

task<result<>> wait_void() {
    oneshot<> o;
    o.set();
    result<> r = co_await o.wait();
    co_return r;
}

TEST(oneshot, may_carry_nothing) {
    stepped_runtime r;
    EXPECT_TRUE(r.run(wait_void).has_value());
}

}  // namespace
}  // namespace nacre
