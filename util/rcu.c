/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RCU glue: registration of threads that may or may not take part.
 *
 * liburcu must not be told of a quiescent state by a thread that it does not know, so
 * each thread remembers whether it has registered.
 */
#include "util/rcu.h"

#include <glib.h>
#include <stdbool.h>

static __thread bool registered;

void rcu_thread_enter(void)
{
    if (registered) {
        return;
    }
    rcu_register_thread();
    registered = true;
}

void rcu_thread_leave(void)
{
    if (!registered) {
        return;
    }
    rcu_unregister_thread();
    registered = false;
}

void rcu_thread_quiescent(void)
{
    if (registered) {
        rcu_quiescent_state();
    }
}

void rcu_thread_park(void)
{
    if (registered) {
        rcu_thread_offline();
    }
}

void rcu_thread_unpark(void)
{
    if (registered) {
        rcu_thread_online();
    }
}

#ifdef RCU_TSAN

void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
const char *__tsan_default_suppressions(void);

/* What liburcu does with memory of its own is ordered by barriers that nobody reports. */
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:liburcu-qsbr.so\n";
}

/* Readers release it in a quiescent state; the end of a grace period acquires it. */
static char grace_period;
/* Callbacks release it when they return; rcu_barrier() acquires it. */
static char callbacks;

/* Carries the caller's callback: rcu_head has room for one function only. */
typedef struct TsanCall {
    struct rcu_head head;
    struct rcu_head *object;
    void (*func)(struct rcu_head *object);
} TsanCall;

void rcu_tsan_quiescent_state(void)
{
    __tsan_release(&grace_period);
    urcu_qsbr_quiescent_state();
}

void rcu_tsan_thread_offline(void)
{
    __tsan_release(&grace_period);
    urcu_qsbr_thread_offline();
}

void rcu_tsan_unregister_thread(void)
{
    __tsan_release(&grace_period);
    urcu_qsbr_unregister_thread();
}

void rcu_tsan_synchronize(void)
{
    /* The caller is a reader too, and is quiescent here. */
    __tsan_release(&grace_period);
    urcu_qsbr_synchronize_rcu();
    __tsan_acquire(&grace_period);
}

static void tsan_call_run(struct rcu_head *head)
{
    TsanCall *call = caa_container_of(head, TsanCall, head);

    __tsan_acquire(call);
    __tsan_acquire(&grace_period);
    call->func(call->object);
    g_free(call);
    __tsan_release(&callbacks);
}

void rcu_tsan_call(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
    TsanCall *call = g_new(TsanCall, 1);

    call->object = head;
    call->func = func;
    __tsan_release(call);
    urcu_qsbr_call_rcu(&call->head, tsan_call_run);
}

void rcu_tsan_barrier(void)
{
    urcu_qsbr_barrier();
    __tsan_acquire(&callbacks);
}

#endif
