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
#include <urcu/urcu-qsbr.h>

/* Each thread that reads: registers first, unregisters last. Idempotent. */
void rcu_thread_enter(void);
void rcu_thread_leave(void);

#endif
