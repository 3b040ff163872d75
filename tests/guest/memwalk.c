/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load of a guest that is migrated: memory that changes, packets that wait in memory, echoes
 * that nobody may lose.  All of it can be verified, and is when the host asks on the console.
 *
 * How it works, in one thread that ticks every 5 ms:
 *
 * Memory.  Each page is filled with a pattern made from its number and its generation; each tick
 * rewrites some random pages with their next generation.  The generations are also kept in a table
 * elsewhere, so a page that is whole but old shows, too.
 *
 * Datagrams.  Each tick sends numbered, patterned ICMP echo requests as large as a frame can be;
 * the replies are left unread in the socket until there are so many that the oldest must go.  What
 * waits there lies in pages that the device wrote and nobody else did: the network driver copies
 * only the head of such a packet, the kernel checks its sum before it queues it, and we are the
 * first to read the rest.  A page that was received before a migration and arrives old, or not at
 * all, shows here.  The requests go to sixteen addresses, because the kernel spreads them over its
 * queues by address.
 *
 * Echoes.  Every 50 ms a small numbered request; each reply is a line on the console as it comes,
 * with the range of the datagrams that wait unread at this moment: `echo N unread FIRST-NEXT`.
 *
 * The console.  At `verify N` nothing is rewritten and nothing sent until all datagrams have been
 * read and all pages walked; the answer is one line that begins with `verified N`.  What is wrong
 * is said in lines that begin with `bad`.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#define TICK_MS            5
#define TICKS_PER_ECHO     10
#define PAGES_PER_TICK     8
#define DATAGRAMS_PER_TICK 8

#define PAGE_WORDS     (4096 / sizeof(uint64_t))
#define DATAGRAM_WORDS 184 /* with its ICMP and IP headers exactly an MTU of 1500 bytes */
#define ECHO_WORDS     7
#define PEERS          16
#define NUMBERS        65536 /* a number is known to have been seen for so long */
#define RECEIVE_BUFFER (64 << 20)
#define LAST_REPLY_MS  1000
#define BAD_LINES      8
#define NO_NUMBER      UINT64_MAX

typedef struct Memory {
    uint64_t (*page)[PAGE_WORDS];
    uint32_t *generation;
    size_t pages;
    uint64_t written; /* pages, since the start */
} Memory;

/* A row of numbered echo requests, and which of them were answered. */
typedef struct Stream {
    int fd;
    uint64_t salt; /* tells the patterns of the streams apart */
    size_t words; /* of a payload */
    uint64_t sent;
    uint64_t received; /* each number counts once */
    uint64_t missed; /* of these we wait for no reply any more */
    uint64_t bad;
    uint64_t twice;
    bool seen[NUMBERS];
} Stream;

typedef struct Message {
    struct icmphdr header;
    uint64_t word[DATAGRAM_WORDS]; /* the first is the number */
} Message;

static struct sockaddr_in peers[PEERS];
static unsigned bad_lines;

static void die(const char *what)
{
    printf("bad: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The finalizer of splitmix64: neighbouring inputs have nothing in common after it. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/* Whether to say more about what is bad: the count comes in any case. */
static bool bad_line_left(void)
{
    return bad_lines++ < BAD_LINES;
}

static uint64_t page_word(size_t page, uint32_t generation, size_t i)
{
    return mix((uint64_t)page << 40 ^ (uint64_t)generation << 9 ^ i);
}

static void memory_write_page(Memory *memory, size_t page)
{
    uint32_t generation = ++memory->generation[page];

    for (size_t i = 0; i < PAGE_WORDS; i++)
        memory->page[page][i] = page_word(page, generation, i);
    memory->written++;
}

static void memory_init(Memory *memory, size_t megabytes)
{
    size_t size = megabytes << 20;

    memory->pages = size / sizeof(memory->page[0]);
    memory->generation = calloc(memory->pages, sizeof(memory->generation[0]));
    memory->page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!memory->generation || memory->page == MAP_FAILED)
        die("no memory");
    for (size_t page = 0; page < memory->pages; page++)
        memory_write_page(memory, page);
}

/* Compares every word with what was last written there; returns how many pages differ. */
static size_t memory_walk(const Memory *memory)
{
    size_t bad = 0;

    for (size_t page = 0; page < memory->pages; page++) {
        uint32_t generation = memory->generation[page];
        size_t i = 0;

        while (i < PAGE_WORDS && memory->page[page][i] == page_word(page, generation, i))
            i++;
        if (i == PAGE_WORDS)
            continue;
        bad++;
        if (bad_line_left())
            printf("bad page %zu of generation %" PRIu32 ": word %zu is %#" PRIx64 "\n", page,
                   generation, i, memory->page[page][i]);
    }
    return bad;
}

static uint64_t stream_word(const Stream *stream, uint64_t number, size_t i)
{
    return mix(stream->salt ^ number << 12 ^ i);
}

static void stream_init(Stream *stream, uint64_t salt, size_t words)
{
    int buffer = RECEIVE_BUFFER;

    stream->salt = salt << 56;
    stream->words = words;
    stream->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_ICMP);
    if (stream->fd < 0)
        die("no ping socket");
    if (setsockopt(stream->fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0)
        die("no receive buffer");
}

/* Sends the next number; if the kernel does not take it now, it is the next one still. */
static void stream_send(Stream *stream)
{
    const struct sockaddr_in *peer = &peers[stream->sent % PEERS];
    size_t size = sizeof(struct icmphdr) + stream->words * sizeof(uint64_t);
    Message message = { .header = { .type = ICMP_ECHO } };

    message.word[0] = stream->sent;
    for (size_t i = 1; i < stream->words; i++)
        message.word[i] = stream_word(stream, stream->sent, i);
    message.header.un.echo.sequence = htons((uint16_t)stream->sent);
    stream->seen[stream->sent % NUMBERS] = false;
    if (sendto(stream->fd, &message, size, 0, (const struct sockaddr *)peer, sizeof(*peer)) >= 0)
        stream->sent++;
}

static int64_t stream_unread(const Stream *stream)
{
    return (int64_t)(stream->sent - stream->received - stream->missed);
}

/* Where the payload differs from what was sent under its number: a byte offset, or -1. */
static ptrdiff_t stream_difference(const Stream *stream, const Message *message, size_t size)
{
    uint64_t number = message->word[0];

    if (size != sizeof(message->header) + stream->words * sizeof(uint64_t))
        return (ptrdiff_t)size;
    if (number >= stream->sent || number + NUMBERS < stream->sent)
        return offsetof(Message, word[0]);
    for (size_t i = 1; i < stream->words; i++)
        if (message->word[i] != stream_word(stream, number, i))
            return (ptrdiff_t)offsetof(Message, word[i]);
    return -1;
}

/* Reads and checks one reply; false if there is none.  Sets `number` to that of a good, new one. */
static bool stream_receive(Stream *stream, uint64_t *number)
{
    Message message = { 0 };
    ssize_t size = recv(stream->fd, &message, sizeof(message), 0);
    ptrdiff_t offset;

    if (size < 0)
        return false;
    offset = stream_difference(stream, &message, (size_t)size);
    if (offset >= 0) {
        stream->bad++;
        stream->missed++; /* whichever number it was: it has come */
        if (bad_line_left())
            printf("bad datagram %" PRIu64 " of %zd bytes: differs at byte %td\n", message.word[0],
                   size, offset);
        return true;
    }
    if (stream->seen[message.word[0] % NUMBERS]) {
        stream->twice++;
        if (bad_line_left())
            printf("bad datagram %" PRIu64 ": came before\n", message.word[0]);
        return true;
    }
    stream->seen[message.word[0] % NUMBERS] = true;
    stream->received++;
    if (number)
        *number = message.word[0];
    return true;
}

/* Reads until all are there, or none comes any more. */
static void stream_drain(Stream *stream)
{
    struct pollfd readable = { .fd = stream->fd, .events = POLLIN };

    while (stream_unread(stream) > 0)
        if (!stream_receive(stream, NULL) && poll(&readable, 1, LAST_REPLY_MS) == 0)
            break;
    stream->missed = stream->sent - stream->received;
}

static void echo_receive(Stream *echo, const Stream *datagrams)
{
    uint64_t number;

    for (number = NO_NUMBER; stream_receive(echo, &number); number = NO_NUMBER)
        if (number != NO_NUMBER)
            printf("echo %" PRIu64 " unread %" PRIu64 "-%" PRIu64 "\n", number,
                   datagrams->sent - (uint64_t)stream_unread(datagrams), datagrams->sent);
}

static void tick(uint64_t ticks, Memory *memory, Stream *datagrams, Stream *echo, int64_t unread)
{
    for (unsigned i = 0; i < PAGES_PER_TICK; i++)
        memory_write_page(memory, mix(memory->written) % memory->pages);
    for (unsigned i = 0; i < DATAGRAMS_PER_TICK; i++)
        stream_send(datagrams);
    while (stream_unread(datagrams) > unread && stream_receive(datagrams, NULL))
        continue;
    if (ticks % TICKS_PER_ECHO == 0)
        stream_send(echo);
}

static void verify(unsigned round, const Memory *memory, Stream *datagrams)
{
    int64_t unread = stream_unread(datagrams);
    size_t bad;

    bad_lines = 0;
    stream_drain(datagrams);
    bad = memory_walk(memory);
    printf("verified %u pages=%zu pages-written=%" PRIu64 " pages-bad=%zu unread=%" PRId64
           " datagrams=%" PRIu64 " datagrams-bad=%" PRIu64 " datagrams-lost=%" PRIu64
           " datagrams-twice=%" PRIu64 "\n",
           round, memory->pages, memory->written, bad, unread, datagrams->sent, datagrams->bad,
           datagrams->missed - datagrams->bad, datagrams->twice);
}

static void command(const Memory *memory, Stream *datagrams)
{
    char line[64];
    unsigned round;

    if (!fgets(line, sizeof(line), stdin))
        die("no console");
    if (sscanf(line, "verify %u", &round) == 1)
        verify(round, memory, datagrams);
    else
        printf("bad command: %s", line);
}

static int timer_new(void)
{
    struct itimerspec every = { .it_interval.tv_nsec = TICK_MS * 1000000,
                                .it_value.tv_nsec = TICK_MS * 1000000 };
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

    if (fd < 0 || timerfd_settime(fd, 0, &every, NULL) < 0)
        die("no timer");
    return fd;
}

static void console_init(void)
{
    struct termios console;

    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() shall see all that is there */
    if (tcgetattr(STDIN_FILENO, &console) == 0) {
        console.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSANOW, &console);
    }
}

static void peers_init(const char *first)
{
    struct in_addr address;

    if (inet_pton(AF_INET, first, &address) != 1) {
        errno = EINVAL;
        die(first);
    }
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = (struct sockaddr_in){
            .sin_family = AF_INET,
            .sin_addr.s_addr = htonl(ntohl(address.s_addr) + i),
        };
}

/* Lets us have ICMP sockets that are no raw sockets: each gets its own replies only. */
static void allow_ping_sockets(void)
{
    FILE *file = fopen("/proc/sys/net/ipv4/ping_group_range", "w");

    if (!file || fputs("0 0\n", file) < 0 || fclose(file) < 0)
        die("ping_group_range");
}

int main(int argc, char **argv)
{
    static Memory memory;
    static Stream datagrams, echo;
    struct pollfd fds[3];
    uint64_t expirations;

    console_init();
    if (argc != 4) {
        printf("usage: memwalk FIRST-ADDRESS MEGABYTES UNREAD-DATAGRAMS\n");
        return 1;
    }
    peers_init(argv[1]);
    allow_ping_sockets();
    memory_init(&memory, strtoul(argv[2], NULL, 10));
    stream_init(&datagrams, 1, DATAGRAM_WORDS);
    stream_init(&echo, 2, ECHO_WORDS);
    fds[0] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = timer_new(), .events = POLLIN };
    fds[2] = (struct pollfd){ .fd = echo.fd, .events = POLLIN };
    printf("ready\n");

    for (uint64_t ticks = 0;;) {
        if (poll(fds, 3, -1) < 0)
            die("poll");
        if (fds[2].revents)
            echo_receive(&echo, &datagrams);
        if (fds[1].revents && read(fds[1].fd, &expirations, sizeof(expirations)) > 0)
            tick(ticks++, &memory, &datagrams, &echo, (int64_t)strtoll(argv[3], NULL, 10));
        if (fds[0].revents)
            command(&memory, &datagrams);
    }
}
