// SPDX-License-Identifier: BSD-3-Clause
//
// A doubly linked list whose links live in its elements: no allocation, O(1) removal from the
// middle. An element is in at most one list per hook; a hook that is destroyed while linked unlinks
// nothing, it asserts, because whoever destroys it has forgotten a waiter.
#pragma once

#include "nacre/core/assert.hpp"

namespace nacre {

class list_hook {
public:
    list_hook() noexcept = default;
    list_hook(const list_hook&) = delete;
    list_hook& operator=(const list_hook&) = delete;
    ~list_hook() { NACRE_ASSERT(!linked()); }

    [[nodiscard]] bool linked() const noexcept { return next_ != nullptr; }
    void unlink() noexcept {
        next_->prev_ = prev_;
        prev_->next_ = next_;
        next_ = prev_ = nullptr;
    }

private:
    template <typename T>
    friend class intrusive_list;
    list_hook* next_ = nullptr;
    list_hook* prev_ = nullptr;
};

/// T derives from list_hook. Not copyable, not movable: elements point at it.
template <typename T>
class intrusive_list {
public:
    intrusive_list() noexcept { root_.next_ = root_.prev_ = &root_; }
    intrusive_list(const intrusive_list&) = delete;
    intrusive_list& operator=(const intrusive_list&) = delete;
    ~intrusive_list() {
        NACRE_ASSERT(empty());
        root_.next_ = root_.prev_ = nullptr;
    }

    [[nodiscard]] bool empty() const noexcept { return root_.next_ == &root_; }
    [[nodiscard]] T* front() noexcept { return empty() ? nullptr : cast(root_.next_); }
    [[nodiscard]] T* next(T& element) noexcept {
        list_hook* n = static_cast<list_hook&>(element).next_;
        return n == &root_ ? nullptr : cast(n);
    }
    void push_back(T& element) noexcept { insert_before(root_, element); }
    void push_front(T& element) noexcept { insert_before(*root_.next_, element); }
    T* pop_front() noexcept {
        T* first = front();
        if (first != nullptr) static_cast<list_hook*>(first)->unlink();
        return first;
    }

private:
    static T* cast(list_hook* h) noexcept { return static_cast<T*>(h); }
    static void insert_before(list_hook& where, list_hook& element) noexcept {
        NACRE_ASSERT(!element.linked());
        // In this order g++ makes four plain stores; other orders tempt it to build a vector first.
        list_hook* const before = where.prev_;
        element.prev_ = before;
        before->next_ = &element;
        element.next_ = &where;
        where.prev_ = &element;
    }
    list_hook root_;
};

}  // namespace nacre
