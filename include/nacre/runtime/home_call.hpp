// SPDX-License-Identifier: BSD-3-Clause
//
// at_home: a coroutine of an object, run on the object's home thread, awaited from any.
//
//     result<> r = co_await at_home<&blob_engine::allocate>(engine, across<blob_node>(node), 7);
//
// On the home thread itself nothing is sent.
#pragma once

#include <utility>

#include "nacre/runtime/thread.hpp"

namespace nacre::detail {

template <typename T>
task<T> joined(join_handle<T> handle) {
    T value = co_await handle;
    co_return value;
}

/// Not a coroutine: makes the object's.
template <auto Member, typename Object, typename... Args>
auto call_member(across<Object> object, Args... args) {
    return ((*object).*Member)(std::move(args)...);
}

template <auto Member, typename Object, typename... Args>
auto at_home(Object& object, Args... args) -> decltype((object.*Member)(std::move(args)...)) {
    if (thread::current() == &object.home()) return (object.*Member)(std::move(args)...);
    return joined(object.home().spawn(&call_member<Member, Object, Args...>, across<Object>(object),
                                      std::move(args)...));
}

}  // namespace nacre::detail
