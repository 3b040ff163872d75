/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tests of the modes share: rings of each kind, traffic in threads of its own while the VMM
 * switches, a dirty log, and what the device under test has said.
 */
#ifndef TESTS_LIB_MODE_RIG_H
#define TESTS_LIB_MODE_RIG_H

#include "lib/svq-rig.h"

/* Rings that the guest and the device have alike, as they must where one can work the other's. */
typedef struct ModeFormat {
    const char *name;
    uint64_t features;          /* of the ring */
    int64_t poll_max_ns;
} ModeFormat;

extern const ModeFormat mode_formats[6];

/* Adds "NAME/FORMAT" for the first @n of them; the test gets the format. */
void mode_test_add(const char *name, GTestDataFunc test, unsigned int n);

/* A loopback device. */
RigConfig mode_config(const ModeFormat *format, SvqMode mode);

/* A device of paper, all of whose features the guest takes. */
RigConfig mode_fake_config(const ModeFormat *format, SvqMode mode,
                           void (*prepare)(FakeDevice *fake));

/* Instead of rig_test_init(): keeps what is said, without times. */
void mode_test_init(int *argc, char ***argv);

/* Messages and warnings since last asked, a line each; free it. */
char *mode_take_words(void);

/* Whether @words were said since then; leaves them there. */
bool mode_has_said(const char *words);

/* Asserts that @words were said once since then; takes it all. */
void mode_assert_said_once(const char *words);

/* The VMM turns LOG_ALL on or off. */
void mode_set_log_all(Rig *rig, bool on);

bool mode_passes_through(const Rig *rig, unsigned int q);

/* Buffers that we have forwarded so far, of all queues. */
uint64_t mode_forwarded(const Rig *rig);

/* Runs the main loop until queue 0 passes through, or does not; 10 s at most. */
void mode_await(Rig *rig, bool passthrough);

/* The same until @words were said. */
void mode_await_words(const char *words);

/* What the device of paper was asked since the last time. */
void mode_assert_calls(Rig *rig, const char *expected);
void mode_forget_calls(Rig *rig);

/*
 * Buffer @i of queue @q: the guest posts it; the device takes it, the next one that there is; and
 * puts it back, which the guest sees.  mode_serve() is the last two.
 */
void mode_post(Rig *rig, unsigned int q, unsigned int i);
uint16_t mode_take(Rig *rig, unsigned int q, unsigned int i);
void mode_put(Rig *rig, unsigned int q, uint16_t id, unsigned int i);
void mode_serve(Rig *rig, unsigned int q, unsigned int i);

/* Traffic on a pair in a thread of its own, until told to end. */
typedef struct ModeTraffic {
    Vmm *vmm;
    unsigned int pair;
    _Atomic bool end;
    _Atomic unsigned int rounds;
    GThread *thread;
} ModeTraffic;

void mode_traffic_start(ModeTraffic *traffic, Vmm *v, unsigned int pair);

/* Returns when packets have passed since it was called. */
void mode_traffic_await(ModeTraffic *traffic);
void mode_traffic_end(ModeTraffic *traffic);

/* A dirty log of all that the VMM's guest can have, as the VMM sees it. */
#define MODE_LOG_BYTES 0x1000u

typedef struct ModeLog {
    int fd;
    uint8_t *bits;
} ModeLog;

/* Gives it to the device. */
void mode_log_init(ModeLog *log, Rig *rig);
void mode_log_cleanup(ModeLog *log);

/* Pages of [gpa, gpa + len) that are in the log. */
unsigned int mode_log_count(const ModeLog *log, uint64_t gpa, uint64_t len);

/* Whether all pages of the guest's memory are. */
bool mode_log_has_all(const ModeLog *log, const Vmm *v);

#endif
