/* SPDX-License-Identifier: BSD-3-Clause */
/* The policy of adaptive polling: how long it is worth polling a handler before a sleep. */
#include "aio-poll.h"

static int64_t poll_grow(const AioPollParams *params, int64_t poll_ns)
{
    int64_t factor = params->grow > 0 ? params->grow : 2;

    if (poll_ns == 0) {
        return MIN(AIO_POLL_FIRST_NS, params->max_ns);
    }
    /* Divided, for the product may not fit. */
    return poll_ns > params->max_ns / factor ? params->max_ns : poll_ns * factor;
}

static int64_t poll_shrink(const AioPollParams *params, int64_t poll_ns)
{
    return params->shrink > 0 ? poll_ns / params->shrink : 0;
}

int64_t aio_poll_adjust(const AioPollParams *params, int64_t poll_ns, int64_t blocked_ns,
                        bool event)
{
    if (params->max_ns <= 0) {
        return 0;
    }
    poll_ns = MIN(poll_ns, params->max_ns);
    if (blocked_ns <= poll_ns) {
        return poll_ns;
    }
    if (blocked_ns > params->max_ns) {
        return poll_shrink(params, poll_ns);
    }
    return event ? poll_grow(params, poll_ns) : poll_ns;
}

bool aio_poll_is_idle(int64_t since_ns, int64_t now_ns)
{
    return now_ns - since_ns >= AIO_POLL_IDLE_NS;
}
