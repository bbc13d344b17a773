// SPDX-License-Identifier: BSD-3-Clause
//
// The ready list: the one place where anything becomes runnable.
//
// A `work` is a node that lives in whatever is waiting (an awaiter, an op, a message); being run
// means that its function is called once, from the loop of the reactor that hosts its queue, never
// from the place that pushed it. So stacks stay bounded, completions batch, and a simulator sees
// one list to permute. A `run_queue` is the FIFO of one lightweight thread; a `runnable_list` holds
// the queues of one reactor that have something to do.
//
// Single-threaded: a queue is touched only by the OS thread that hosts it. Cost of a push: 6
// instructions, 12 when the queue was empty.
#pragma once

namespace nacre {

struct work {
    work* next;                        ///< of the queue that it is in; meaningless outside one
    void (*run)(work& self) noexcept;  ///< set by whoever makes it ready
};

/// Resumes a suspended coroutine by the address of its frame: std::coroutine_handle<>::resume(),
/// but as a call that does not throw, which a noexcept function can make as a jump. Both compilers
/// keep the function that resumes in the first word of a frame, and no coroutine of nacre lets an
/// exception out.
inline void resume_frame(void* frame) noexcept {
    using function = void (*)(void*) noexcept;
    (*static_cast<function*>(frame))(frame);
}

class runnable_list;

class run_queue {
public:
    explicit run_queue(runnable_list* host = nullptr) noexcept : host_(host) {}
    run_queue(const run_queue&) = delete;
    run_queue& operator=(const run_queue&) = delete;

    inline void push(work& w) noexcept;
    [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
    [[nodiscard]] work* pop() noexcept {
        work* w = head_;
        if (w != nullptr) head_ = w->next;
        return w;
    }
    /// Takes out the n-th node (0 is the front; n < size()): the simulator's choice.
    [[nodiscard]] work* pop_at(unsigned n) noexcept {
        if (n == 0) return pop();
        work* before = head_;
        while (--n != 0) before = before->next;
        work* w = before->next;
        before->next = w->next;
        if (w == tail_) tail_ = before;
        return w;
    }
    [[nodiscard]] unsigned size() const noexcept {
        unsigned n = 0;
        for (work* w = head_; w != nullptr; w = w->next) ++n;
        return n;
    }
    /// Takes the whole chain, front first; what is pushed from now on waits for the next turn.
    [[nodiscard]] work* take_all() noexcept {
        work* chain = head_;
        head_ = nullptr;
        return chain;
    }
    /// Puts back what a turn's budget left over, in front of whatever came meanwhile.
    void put_back(work& first, work& last) noexcept {
        last.next = head_;
        if (head_ == nullptr) tail_ = &last;
        head_ = &first;
        if (!linked_) link();
    }
    /// Moves to another host's list; the queue must not be linked in the old one.
    void set_host(runnable_list* host) noexcept { host_ = host; }
    [[nodiscard]] bool linked() const noexcept { return linked_; }
    [[nodiscard]] runnable_list* host() const noexcept { return host_; }

private:
    friend class runnable_list;
    inline void link() noexcept;
    work* head_ = nullptr;
    work* tail_ = nullptr;  // meaningful only while head_ is set
    runnable_list* host_;
    run_queue* next_runnable_ = nullptr;
    bool linked_ = false;
};

class runnable_list {
public:
    [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
    void push(run_queue& q) noexcept {
        q.linked_ = true;
        q.next_runnable_ = nullptr;
        if (head_ == nullptr)
            head_ = &q;
        else
            tail_->next_runnable_ = &q;
        tail_ = &q;
    }
    [[nodiscard]] run_queue* pop() noexcept {
        run_queue* q = head_;
        if (q != nullptr) {
            head_ = q->next_runnable_;
            q->linked_ = false;
        }
        return q;
    }

private:
    run_queue* head_ = nullptr;
    run_queue* tail_ = nullptr;  // meaningful only while head_ is set
};

inline void run_queue::push(work& w) noexcept {
    w.next = nullptr;
    if (head_ == nullptr) {
        head_ = &w;
        if (!linked_) link();
        tail_ = &w;
    } else {
        tail_->next = &w;
        tail_ = &w;
    }
}

inline void run_queue::link() noexcept { host_->push(*this); }

}  // namespace nacre
