/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RCU glue: which liburcu flavour we use, and the few calls the project makes of it.
 *
 * How it works.  We use the QSBR flavour (quiescent-state based).  A reader pays
 * nothing at all: rcu_read_lock() is empty.  In return each registered thread must
 * say now and then that it holds no reference.  An event loop has a natural place
 * for that: aio_poll() announces one quiescent state an iteration and goes offline
 * while it sleeps in the kernel.  So a reader's "section" is at most one callback of
 * the loop, and a pointer got by rcu_dereference() is dead when that callback
 * returns.
 *
 * What is guaranteed: what a registered, online thread got by rcu_dereference() stays
 * valid until its callback returns.  What is not: two rcu_dereference() of the same
 * pointer in one callback may differ; a pointer kept across callbacks may dangle.
 *
 * The writer side: publish with rcu_assign_pointer(), then call_rcu() to free the old
 * object later, or synchronize_rcu() to wait.  liburcu takes a registered thread that
 * calls synchronize_rcu() offline while it waits, so two of them cannot deadlock.
 */
#ifndef UTIL_RCU_H
#define UTIL_RCU_H

#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu-qsbr.h>

/*
 * liburcu's own macro stores through a volatile pointer behind an sfence.  A release
 * store promises readers the same, costs a plain move on x86, and is in the language's
 * memory model, so that race detectors understand it.  Pairs with rcu_dereference().
 */
#undef rcu_assign_pointer
#define rcu_assign_pointer(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)

/* Each thread that reads: registers first, unregisters last. Idempotent. */
void rcu_thread_enter(void);
void rcu_thread_leave(void);

/* Any thread; nothing happens in one that is not registered: a quiescent state. */
void rcu_thread_quiescent(void);

/*
 * Any thread; nothing happens in one that is not registered.  To be put around whatever
 * may block: a registered thread that blocks online makes all grace periods wait for it.
 */
void rcu_thread_park(void);
void rcu_thread_unpark(void);

/*
 * liburcu is not built for ThreadSanitizer, which therefore sees neither that a quiescent
 * state comes before the end of a grace period, nor that call_rcu() comes before its
 * callback and that before the end of rcu_barrier().  Under ThreadSanitizer these wrappers
 * tell it just that, no more: an object that is freed without a grace period, or used after a
 * quiescent state, is still a race to it.
 */
#if defined(__SANITIZE_THREAD__)
#define RCU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_TSAN 1
#endif
#endif

#ifdef RCU_TSAN
void rcu_tsan_quiescent_state(void);
void rcu_tsan_thread_offline(void);
void rcu_tsan_unregister_thread(void);
void rcu_tsan_synchronize(void);
void rcu_tsan_call(struct rcu_head *head, void (*func)(struct rcu_head *head));
void rcu_tsan_barrier(void);
#undef rcu_quiescent_state
#undef rcu_thread_offline
#undef rcu_unregister_thread
#undef synchronize_rcu
#undef call_rcu
#undef rcu_barrier
#define rcu_quiescent_state   rcu_tsan_quiescent_state
#define rcu_thread_offline    rcu_tsan_thread_offline
#define rcu_unregister_thread rcu_tsan_unregister_thread
#define synchronize_rcu       rcu_tsan_synchronize
#define call_rcu              rcu_tsan_call
#define rcu_barrier           rcu_tsan_barrier
#endif

#endif
