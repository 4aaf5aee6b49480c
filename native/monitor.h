/* The monitor: one small process per container (or exec). It performs the launch's plan, owns the container's streams, writes its log, serves
 * attach and control connections, reaps init and writes the exit record. It outlives the helper and the engine. */
#ifndef WHERRY_MONITOR_H
#define WHERRY_MONITOR_H
#include "plan.h"

#include <poll.h>

enum {
  RELAY_FD = 3, /* to the helper */
  PRESERVED_BASE = 700, /* launch.c: the program's further descriptors */
  DIRECT_FD = 4, /* the stub's connection and its descriptors 0, 1, 2: 4..7 */
  MAX_CLIENTS = 64,
  MAX_KEYS = 16,
  MAX_EXIT_REPORTS = 16,
  MAX_HANDED = 64 << 10, /* bytes of a launch that a monitor in waiting takes */
  CHUNK = 16 << 10, /* one read of a stream */
  MAX_ATTRS = 8 << 10, /* JSON that every line of a log carries */
  QUEUE_MAX = 4 << 20, /* of one sink, after init's end; before, it holds one chunk */
};

enum { WANT_STDIN = 1, WANT_STDOUT = 2, WANT_STDERR = 4 };
enum { OUT = 0, ERR = 1 };

/* Launch flags. */
enum {
  L_TTY = 1,
  L_OPEN_STDIN = 2,
  L_STDIN_ONCE = 4,
  L_DIRECT = 8,
  L_DIRECT_STDIN = 16,
  L_DIRECT_STDOUT = 32,
  L_DIRECT_STDERR = 64,
  L_LOG = 128,
};
enum { LOG_HOLD = 1, LOG_EXACT = 2 }; /* log flags */

/* A launch's header, decoded; strings lie in the frame. */
struct launch {
  uint8_t flags;
  uint16_t rows, columns;
  uint32_t gate;
  struct str socket_path, exit_path, pid_path, token, log_path, log_attrs;
  struct bytes detach_keys;
  uint64_t log_max_bytes;
  uint32_t log_max_files;
  uint8_t log_flags;
  struct strs exit_reports;
  struct reader plan;
};
/* Decodes a launch; nonzero when malformed. */
int read_launch(struct reader r, struct launch *launch);

/* Performs a launch in a process forked for it: RELAY_FD and DIRECT_FD.. are in place, everything else is closed. `frame` is dropped when it
 * is no longer needed. `net`: the monitor's own network namespace and one for the child, or NULL. */
_Noreturn void monitor_main(uint32_t id, const struct launch *launch, void *frame, size_t frame_size, const int *net);
/* A monitor in waiting: a fork made before there is a launch, so that nobody waits for it; with `makes_net` there is a network namespace ready as well. Takes
 * one LAUNCH frame of at most MAX_HANDED bytes from RELAY_FD (and descriptors 4..7 with it) into `frame`, and goes on as that launch's monitor. Ends when
 * the helper closes RELAY_FD. */
_Noreturn void monitor_wait(bool makes_net, uint8_t *frame, size_t frame_size);
/* A run at its start. */
void init_run(struct run *run, uint32_t id, struct reader plan);
/* The launch has failed: ends the child, tells the engine which step it was, and exits. */
_Noreturn void give_up(struct run *run, int step, int error);
/* Performs a plan without a clone. */
_Noreturn void call_main(uint32_t id, struct reader plan);

/* --- log.c: the json-file log */
int log_open(const struct launch *l);
/* Takes bytes of a stream: complete lines (or 16 KiB pieces) are written as entries. */
void log_feed(int stream, const uint8_t *data, size_t n);
/* Writes what is buffered. */
void log_flush(void);
/* The stream has ended: a last line without newline is an entry too. */
void log_end(int stream);
/* Gives buffers' memory back when nothing is pending. */
void log_idle(void);
/* The log is full of what nobody has fetched yet (LOG_HOLD): the container's output waits. */
bool log_held(void);
/* A rotated file has been compressed beside the log (PATH.gz.tmp): u64 inode of the original, which it replaces. 0 or an errno. */
int log_packed(struct reader payload);
/* Escapes bytes as Go's json-file does; at most 6 bytes for each. Returns the end. */
char *json_escape(char *to, const uint8_t *from, size_t n, bool exact);

/* --- client.c: attach and control connections, and the stub's descriptors */
struct queue {
  uint8_t *data;
  size_t capacity, start, end;
};
enum client_state { C_FREE = 0, C_NEW, C_CONTROL, C_ATTACH, C_DIRECT, C_LINGER };
struct client {
  uint8_t state, wants;
  bool stdin_ended;  /* no more input from it */
  bool reopened[3];  /* DIRECT: our own non-blocking description */
  bool is_tty;       /* DIRECT: stdin is a terminal */
  uint8_t n_keys, matched;
  uint8_t keys[MAX_KEYS];
  uint8_t frame[64]; /* a control frame that has not arrived whole */
  uint8_t have;
  pid_t peer;
  int fd;            /* socket; DIRECT: the stub's connection */
  int in, out[2];    /* where bytes come from and go to */
  int64_t background_until; /* DIRECT tty: the stub is not in the foreground; look again then (ms) */
  int64_t linger_until;     /* LINGER: closed then at the latest (ms) */
  struct queue queue[2];
};

struct monitor {
  struct run run;
  uint8_t flags;
  int listener, child_stdin, stream[2]; /* stream[OUT] is the pty's master with a tty */
  bool stdin_closing;                   /* close the container's stdin when what is pending has been written */
  bool launched, init_ended, reported, let_go, someone_had_stdin;
  int64_t let_go_at; /* when nobody has asked for it before (ms) */
  int status;
  int64_t ended_at_ns;
  int64_t drain_until, drain_limit; /* ms; after init's end */
  uint32_t gate, attached;
  uint64_t start_time;
  struct queue pending_stdin;
  struct client clients[MAX_CLIENTS];
  char socket_path[108];
  char exit_path[1024], pid_path[1024];
  char exit_reports[4096];
  uint32_t n_exit_reports;
};
extern struct monitor M;
/* The one buffer through which all streams go. */
extern uint8_t chunk[CHUNK];

int64_t now_ms(void);

void client_accept(void);
void client_readable(struct client *c); /* NEW and CONTROL: a frame; ATTACH, DIRECT: input */
void client_add_direct(uint8_t flags, const struct bytes *keys);
void client_drop(struct client *c);
/* Writes queued output as far as it goes. */
void client_drain(struct client *c, int which);
/* True while no client that wants this stream has output queued. */
bool clients_ready(int stream);
/* Gives a chunk of a stream to everyone who wants it. */
void clients_output(int stream, const uint8_t *data, size_t n);
/* True while somebody has output to get, or has not seen its end. */
bool clients_pending(void);
/* The streams have ended: closes attach connections whose output is delivered. One that may still send input is closed for output only, and read
 * until it closes its side (LINGER): an answer of EPIPE to its input would make it throw away output that it has not read yet. */
void clients_finish(void);
/* May this client be asked for input now? */
bool client_may_read(struct client *c);
bool queue_empty(const struct queue *q);
bool queue_push(struct queue *q, const void *data, size_t n);
void queue_free(struct queue *q);

/* --- oom.c */
/* The descriptor that tells of the OOM killer; -1 when no exit report is of that kind. */
int oom_watch(void);
void oom_event(int fd);
/* What the watched file said last; NULL when that is another or nothing has happened. */
const char *oom_text(const char *path, size_t *length);
/* The descriptor that is readable (POLLPRI) when processes wait for memory; -1 where the kernel does not tell. */
int pressure_watch(void);
/* False: there will be no more. */
bool pressure_event(int fd, short revents);

/* --- names.c: the sockets of the container's name server */
enum { NAME_STREAMS = 16, NAME_FDS = 3 + NAME_STREAMS };
/* Opens them in the child's network namespace, if they are not open. */
int names_open(struct run *run, uint32_t address, uint32_t port);
/* The same with sockets that are open: they are theirs now. */
int names_keep(uint32_t address, int udp, int tcp);
/* A connection of the engine that said HELLO_NAMES, from now on theirs; -1 with errno when they cannot be opened. */
int names_serve(struct run *run, int fd, struct reader hello);
/* Descriptor number `which` (below NAME_FDS) to wait for, and what for; -1 when there is nothing. */
int names_fd(int which, short *events);
void names_event(int which, short events);
void names_close(void);

/* --- monitor.c, for the clients */
void stdin_write(const uint8_t *data, size_t n);
void stdin_close(void);
void control(uint8_t type, struct reader payload, uint32_t request, struct client *from);
/* Tells the helper and every control connection. */
void broadcast(uint8_t type, const void *payload, size_t n);
int client_frame(struct client *c, uint8_t type, const void *payload, size_t n);
#endif
