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

static int64_t average_move(const AioPollParams *params, int64_t average_ns, int64_t wait_ns)
{
    /* As far beyond the bound as a short wait is below it, so that neither outweighs many. */
    const int64_t longest = params->max_ns > INT64_MAX / 2 ? INT64_MAX : 2 * params->max_ns;
    const int64_t weight = params->weight > 0 ? MIN(params->weight, 62) : AIO_POLL_WEIGHT;

    average_ns = MIN(average_ns, longest);
    return average_ns + (MIN(wait_ns, longest) - average_ns) / (INT64_C(1) << weight);
}

/* The polling time after an event that it did not meet. */
static int64_t poll_missed(const AioPollParams *params, const AioPollState *state,
                           int64_t wait_ns)
{
    const bool pays = state->average_ns <= params->max_ns;

    if (wait_ns <= params->max_ns) {
        return pays ? poll_grow(params, state->poll_ns) : state->poll_ns;
    }
    return pays ? state->poll_ns : poll_shrink(params, state->poll_ns);
}

void aio_poll_learn(AioPollState *state, const AioPollParams *params, int64_t wait_ns)
{
    if (params->max_ns <= 0) {
        *state = (AioPollState){ 0 };
        return;
    }
    state->average_ns = average_move(params, state->average_ns, wait_ns);
    state->poll_ns = MIN(state->poll_ns, params->max_ns);
    if (wait_ns > state->poll_ns) {
        state->poll_ns = poll_missed(params, state, wait_ns);
    }
    state->unpolled = state->poll_ns > 0 ? 0 : state->unpolled + 1;
    if (state->unpolled == AIO_POLL_TRIAL) {
        state->unpolled = 0;
        state->poll_ns = params->max_ns;
    }
}

bool aio_poll_is_idle(int64_t max_ns, int64_t since_ns, int64_t now_ns)
{
    return (now_ns - since_ns) / AIO_POLL_IDLE >= max_ns;
}

unsigned int aio_poll_look_rounds(unsigned int rounds, int64_t elapsed_ns)
{
    if (elapsed_ns > AIO_LOOK_NS) {
        return MAX(rounds / 2, AIO_LOOK_ROUNDS_MIN);
    }
    return elapsed_ns < AIO_LOOK_NS / 2 ? MIN(rounds * 2, AIO_LOOK_ROUNDS_MAX) : rounds;
}
