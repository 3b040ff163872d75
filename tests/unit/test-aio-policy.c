/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The policy of adaptive polling on generated events: how many of them polling meets, and what
 * that costs, against a policy that listens to the last wait alone.
 *
 * How it works.  A handler is simulated in a loop of its own.  Each event comes some time after
 * the one before has been dealt with.  If the loop polls for so long it is met; if not, the
 * loop sleeps, and the event is seen late by what waking up takes.  There is no clock, and
 * random numbers have a fixed seed, so the figures printed are the same everywhere.
 */
#include <glib.h>
#include <inttypes.h>

#include "../../util/aio-poll.h"

#define MICROSECOND INT64_C(1000)
#define MILLISECOND INT64_C(1000000)

enum { EVENTS = 20000 };

/* How long after the @i-th event the next one comes. */
typedef int64_t Gap(GRand *rand, unsigned int i, int64_t ns);

static int64_t constant(GRand *rand, unsigned int i, int64_t ns)
{
    return ns;
}

static int64_t uniform(GRand *rand, unsigned int i, int64_t ns)
{
    return g_rand_int_range(rand, (gint32)(ns * 4 / 5), (gint32)(ns * 6 / 5));
}

/* Independent of each other: in each short step of time there is one, or there is not. */
static int64_t poisson(GRand *rand, unsigned int i, int64_t ns)
{
    const int64_t step_ns = MAX(ns / 64, 1);
    int64_t gap_ns = step_ns;

    while (g_rand_double(rand) * (double)ns >= (double)step_ns) {
        gap_ns += step_ns;
    }
    return gap_ns;
}

/* 16 in a row, then a pause. */
static int64_t bursts(GRand *rand, unsigned int i, int64_t ns)
{
    return i % 16 == 0 ? ns : 2 * MICROSECOND;
}

/* Regular but for one in 32, which is late. */
static int64_t outliers(GRand *rand, unsigned int i, int64_t ns)
{
    return i % 32 == 31 ? MILLISECOND : ns;
}

/* Busy for 200, rare for 200. */
static int64_t phases(GRand *rand, unsigned int i, int64_t ns)
{
    return i / 200 % 2 ? 2 * MICROSECOND : ns;
}

typedef struct Tally {
    double met;         /* of all events, per cent */
    double polled_us;   /* for an event */
    double cpu;         /* of the time, per cent */
} Tally;

/* The reference: grows after a wait that it would have met by a longer polling, else gives up. */
static void learn_from_last(AioPollState *state, const AioPollParams *params, int64_t wait_ns)
{
    if (wait_ns <= state->poll_ns) {
        return;
    }
    if (wait_ns > params->max_ns) {
        state->poll_ns = 0;
        return;
    }
    state->poll_ns = state->poll_ns ? MIN(2 * state->poll_ns, params->max_ns) : AIO_POLL_FIRST_NS;
}

typedef void Learn(AioPollState *state, const AioPollParams *params, int64_t wait_ns);

static Tally simulate(Learn *learn, Gap *gap, int64_t ns, int64_t wake_ns)
{
    const AioPollParams params = AIO_POLL_PARAMS_DEFAULT;
    GRand *rand = g_rand_new_with_seed(1);
    int64_t polled_ns = 0, all_ns = 0;
    AioPollState state = { 0 };
    unsigned int i, met = 0;

    for (i = 0; i < EVENTS; i++) {
        int64_t wait_ns = gap(rand, i, ns);

        polled_ns += MIN(wait_ns, state.poll_ns);
        if (wait_ns <= state.poll_ns) {
            met++;
        } else {
            wait_ns += wake_ns;
        }
        all_ns += wait_ns;
        learn(&state, &params, wait_ns);
    }
    g_rand_free(rand);
    return (Tally){
        .met = 100.0 * met / EVENTS,
        .polled_us = (double)polled_ns / EVENTS / 1000,
        .cpu = 100.0 * (double)polled_ns / (double)all_ns,
    };
}

typedef struct Expectation {
    const char *name;
    Gap *gap;
    int64_t ns, wake_ns;
    double met_least;       /* events met, per cent, at the least */
    double cpu_most;        /* of the time, per cent, that polling takes at the most */
    double gain_least;      /* events met more than by the last wait alone, points */
} Expectation;

static const Expectation expectations[] = {
    /* As long as polling meets all, both do. */
    { "constant", constant, 1 * MICROSECOND, 0, 99.9, 100, 0 },
    { "constant", constant, 5 * MICROSECOND, 0, 99.9, 100, 0 },
    { "constant", constant, 20 * MICROSECOND, 0, 99.9, 100, 0 },
    { "uniform", uniform, 25 * MICROSECOND, 0, 99.9, 100, 0 },
    /* The waking up hides from the other that it might have met them. */
    { "constant", constant, 5 * MICROSECOND, 30 * MICROSECOND, 99.8, 100, 99 },
    { "constant", constant, 20 * MICROSECOND, 30 * MICROSECOND, 99.8, 100, 99 },
    { "uniform", uniform, 25 * MICROSECOND, 30 * MICROSECOND, 99.8, 100, 99 },
    /* Chance throws the other back again and again. */
    { "Poisson", poisson, 5 * MICROSECOND, 0, 99, 100, 0 },
    { "Poisson", poisson, 10 * MICROSECOND, 0, 95, 100, 10 },
    { "Poisson", poisson, 20 * MICROSECOND, 0, 75, 100, 30 },
    { "Poisson", poisson, 10 * MICROSECOND, 30 * MICROSECOND, 90, 100, 80 },
    /* All but the first of each burst is met, and the pauses cost little. */
    { "bursts", bursts, 200 * MICROSECOND, 0, 93.7, 15, 6 },
    { "bursts", bursts, 1 * MILLISECOND, 30 * MICROSECOND, 93.7, 3.5, 6 },
    { "bursts", bursts, 10 * MILLISECOND, 0, 93.7, 0.4, 6 },
    { "outliers", outliers, 5 * MICROSECOND, 0, 96.8, 15, 6 },
    { "outliers", outliers, 20 * MICROSECOND, 30 * MICROSECOND, 96, 41, 95 },
    /* It gives up, but for a trial now and then: max_ns / 16 an event. */
    { "constant", constant, 40 * MICROSECOND, 0, 0, 5.2, 0 },
    { "constant", constant, 100 * MICROSECOND, 0, 0, 2.1, 0 },
    { "Poisson", poisson, 100 * MICROSECOND, 0, 1, 3, 0 },
    { "constant", constant, 1 * MILLISECOND, 0, 0, 0.21, 0 },
    { "constant", constant, 10 * MILLISECOND, 0, 0, 0.021, 0 },
    { "Poisson", poisson, 1 * MILLISECOND, 30 * MICROSECOND, 0, 0.25, 0 },
    { "phases", phases, 1 * MILLISECOND, 0, 47, 0.5, -2 },
};

static void test_events(void)
{
    size_t i;

    g_test_message("%-26s   the last wait alone      averages and trials", "");
    g_test_message("%-9s %8s %7s %8s %7s %6s %8s %7s %6s", "events", "every us", "wake us",
                   "met %", "poll us", "CPU %", "met %", "poll us", "CPU %");
    for (i = 0; i < G_N_ELEMENTS(expectations); i++) {
        const Expectation *want = &expectations[i];
        Tally last = simulate(learn_from_last, want->gap, want->ns, want->wake_ns);
        Tally got = simulate(aio_poll_learn, want->gap, want->ns, want->wake_ns);

        g_test_message("%-9s %8" PRId64 " %7" PRId64 " %8.1f %7.2f %6.2f %8.1f %7.2f %6.2f",
                       want->name, want->ns / MICROSECOND, want->wake_ns / MICROSECOND, last.met,
                       last.polled_us, last.cpu, got.met, got.polled_us, got.cpu);
        g_assert_cmpfloat(got.met, >=, want->met_least);
        g_assert_cmpfloat(got.cpu, <=, want->cpu_most);
        g_assert_cmpfloat(got.met, >=, last.met + want->gain_least);
    }
}

typedef struct LearnCase {
    const char *what;
    AioPollParams params;
    AioPollState before;
    int64_t wait_ns;
    int64_t poll_ns;
} LearnCase;

/* Averages of those that polling pays for, and does not, whatever a wait is. */
#define PAYS 0
#define IN_VAIN INT64_MAX

static const LearnCase learn_cases[] = {
    { "no polling at all", { .max_ns = 0 }, { 0, PAYS, 0 }, 100, 0 },
    { "polling switched off", { .max_ns = 0 }, { 8000, PAYS, 0 }, 100, 0 },
    { "negative bound", { .max_ns = -1 }, { 8000, PAYS, 0 }, 100, 0 },
    { "first growth", { .max_ns = 32768 }, { 0, PAYS, 0 }, 20000, 4000 },
    { "first growth is bounded", { .max_ns = 3000 }, { 0, PAYS, 0 }, 2000, 3000 },
    { "growth by 2 by default", { .max_ns = 32768 }, { 4000, PAYS, 0 }, 20000, 8000 },
    { "growth by a factor", { .max_ns = 32768, .grow = 3 }, { 4000, PAYS, 0 }, 20000, 12000 },
    { "growth by 1 is none", { .max_ns = 32768, .grow = 1 }, { 4000, PAYS, 0 }, 20000, 4000 },
    { "growth is bounded", { .max_ns = 32768 }, { 32000, PAYS, 0 }, 32700, 32768 },
    { "growth does not wrap", { .max_ns = INT64_MAX, .grow = INT64_MAX }, { 4000, PAYS, 0 }, 5000,
      INT64_MAX },
    { "no growth if in vain", { .max_ns = 32768 }, { 4000, IN_VAIN, 0 }, 20000, 4000 },
    { "met", { .max_ns = 32768 }, { 8000, PAYS, 0 }, 8000, 8000 },
    { "met, on average in vain", { .max_ns = 32768 }, { 8000, IN_VAIN, 0 }, 8000, 8000 },
    { "just too short", { .max_ns = 32768 }, { 8000, PAYS, 0 }, 8001, 16000 },
    { "longest that grows", { .max_ns = 32768 }, { 8000, PAYS, 0 }, 32768, 16000 },
    { "an outlier", { .max_ns = 32768 }, { 8000, PAYS, 0 }, INT64_MAX, 8000 },
    { "in vain", { .max_ns = 32768 }, { 8000, IN_VAIN, 0 }, 32769, 0 },
    { "in vain, by a divisor", { .max_ns = 32768, .shrink = 2 }, { 8000, IN_VAIN, 0 }, 32769,
      4000 },
    { "bound lowered", { .max_ns = 5000 }, { 8000, PAYS, 0 }, 100, 5000 },
    { "bound lowered, in vain", { .max_ns = 5000, .shrink = 2 }, { 8000, IN_VAIN, 0 }, 6000, 2500 },
    { "not tried yet", { .max_ns = 32768 }, { 0, IN_VAIN, 14 }, INT64_MAX, 0 },
    { "tried", { .max_ns = 32768 }, { 0, IN_VAIN, 15 }, INT64_MAX, 32768 },
};

static void test_learns(void)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(learn_cases); i++) {
        const LearnCase *c = &learn_cases[i];
        AioPollState state = c->before;

        g_test_message("%s", c->what);
        aio_poll_learn(&state, &c->params, c->wait_ns);
        g_assert_cmpint(state.poll_ns, ==, c->poll_ns);
        g_assert_cmpint(state.average_ns, <=, 2 * MIN(MAX(c->params.max_ns, 0), INT64_MAX / 2));
    }
}

/* Events every 20 us: polling grows until it meets them, and stays there. */
static void test_converges(void)
{
    const AioPollParams params = AIO_POLL_PARAMS_DEFAULT;
    static const int64_t expect_ns[] = { 4000, 8000, 16000, 32000, 32000, 32000 };
    AioPollState state = { 0 };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(expect_ns); i++) {
        aio_poll_learn(&state, &params, 20000);
        g_assert_cmpint(state.poll_ns, ==, expect_ns[i]);
    }
}

/* How many long waits in a row make who has met all events give up polling. */
static unsigned int waits_until_given_up(int64_t weight)
{
    const AioPollParams params = { .max_ns = 32768, .weight = weight };
    AioPollState state = { .poll_ns = 4000 };
    unsigned int n;

    for (n = 0; state.poll_ns > 0; n++) {
        aio_poll_learn(&state, &params, MILLISECOND);
    }
    return n;
}

static void test_weight(void)
{
    /* The average is 2 * max_ns * (1 - (1 - 1/2^weight)^n). */
    g_assert_cmpuint(waits_until_given_up(1), ==, 2);
    g_assert_cmpuint(waits_until_given_up(2), ==, 3);
    g_assert_cmpuint(waits_until_given_up(3), ==, 6);
    g_assert_cmpuint(waits_until_given_up(4), ==, 11);
    g_assert_cmpuint(waits_until_given_up(0), ==, waits_until_given_up(3));
}

static void test_trial(void)
{
    const AioPollParams params = AIO_POLL_PARAMS_DEFAULT;
    AioPollState state = { 0 };
    unsigned int i, trials = 0;

    for (i = 0; i < 16 * AIO_POLL_TRIAL; i++) {
        aio_poll_learn(&state, &params, MILLISECOND);
        trials += state.poll_ns == params.max_ns;
    }
    g_assert_cmpuint(trials, ==, 16);

    /* One that pays is gone on with. */
    while (state.poll_ns == 0) {
        aio_poll_learn(&state, &params, MILLISECOND);
    }
    for (i = 0; i < 100; i++) {
        aio_poll_learn(&state, &params, 1000);
        g_assert_cmpint(state.poll_ns, ==, params.max_ns);
    }
}

static void test_idle(void)
{
    const int64_t start_ns = 1234;

    g_assert_false(aio_poll_is_idle(32768, start_ns, start_ns));
    g_assert_false(aio_poll_is_idle(32768, start_ns, start_ns + 8 * 32768 - 1));
    g_assert_true(aio_poll_is_idle(32768, start_ns, start_ns + 8 * 32768));
    g_assert_false(aio_poll_is_idle(INT64_MAX, start_ns, INT64_MAX));
}

static void test_look_rounds(void)
{
    unsigned int i, rounds = AIO_LOOK_ROUNDS_MAX;

    /* Iterations of 5 us: no more than a few of them between two looks. */
    for (i = 0; i < 10; i++) {
        rounds = aio_poll_look_rounds(rounds, rounds * 5 * MICROSECOND);
    }
    g_assert_cmpuint(rounds, ==, AIO_LOOK_ROUNDS_MIN);
    g_assert_cmpuint(aio_poll_look_rounds(rounds, MILLISECOND), ==, AIO_LOOK_ROUNDS_MIN);
    g_assert_cmpuint(aio_poll_look_rounds(16, 16 * 1500), ==, 16);
    for (i = 0; i < 10; i++) {
        rounds = aio_poll_look_rounds(rounds, rounds * 100);
    }
    g_assert_cmpuint(rounds, ==, AIO_LOOK_ROUNDS_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aio-policy/learns-by-table", test_learns);
    g_test_add_func("/aio-policy/converges-on-regular-events", test_converges);
    g_test_add_func("/aio-policy/weight-says-how-soon-it-gives-up", test_weight);
    g_test_add_func("/aio-policy/tries-polling-now-and-then", test_trial);
    g_test_add_func("/aio-policy/meets-generated-events", test_events);
    g_test_add_func("/aio-policy/idle-after-eight-times-the-bound", test_idle);
    g_test_add_func("/aio-policy/looks-at-descriptors-by-time", test_look_rounds);
    return g_test_run();
}
