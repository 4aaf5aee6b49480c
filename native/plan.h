/* A plan and its interpreter. See docs/helper-protocol.md for the bytes. */
#ifndef WHERRY_PLAN_H
#define WHERRY_PLAN_H
#include "sys.h"
#include "ops.gen.h"

enum { WHERE_HOST = 0, WHERE_CHILD = 1, MAX_IGNORE = 4, MAX_POINTS = 64, NO_STEP = -1, PROGRESS_SIZE = 3 * sizeof(uint32_t) };

struct step {
  uint16_t code;
  uint8_t where;
  uint8_t ignored;
  uint16_t ignore[MAX_IGNORE];
  union op op;
};

/* What the first pass over a plan found. */
struct plan_facts {
  uint32_t steps;
  bool clones, gate;
};

/* What the child asks of its monitor and the other way round, over a SOCK_SEQPACKET pair. */
enum ctl_kind { CTL_POINT = 1, CTL_GO, CTL_EXEC, CTL_FAILED, CTL_STREAMS, CTL_REPORT, CTL_READY };
struct ctl_message {
  uint32_t kind, a, b;
};

/* Standard streams that the child makes and hands to the monitor. */
struct streams {
  bool tty, open_stdin;
  uint16_t rows, columns;
  int in, out, err; /* monitor's ends; with tty `out` is the pty's master and `in` a duplicate */
};

/* One process that performs steps: a call's worker, a monitor, or the child. */
struct run {
  bool child;
  struct reader rest; /* steps not yet performed */
  uint32_t index;     /* of the step being performed */
  uint32_t total;
  int relay; /* to the helper; -1 once it is gone */
  uint32_t id;
  int ctl; /* the other side of the clone */
  pid_t child_pid;
  int child_pidfd;
  int own_net, ready_net; /* monitor in waiting: its network namespace, and an unused one for the child of a clone; -1 = none */
  int held_ns; /* kept until the child's end has been told; -1 = none */
  struct late { /* directories that go when the child's end has been told, each with its NUL */
    char *paths;
    uint32_t count;
  } late;
  uint64_t reached; /* points that the other side has signalled */
  bool go;         /* child: the host has performed all its steps */
  bool child_ready; /* host: the child has performed all its steps but exec */
  bool exec_seen, ctl_closed;
  bool call; /* a call's worker: it ends with its plan */
  bool umask_set, stdio_made;
  int child_step, child_errno; /* the child's failure; NO_STEP = none */
  struct streams streams;
  volatile uint32_t *progress; /* shared page: the step that the child is at, the pid that it has outside, and the one after `rebirth` (0 = none) */
  /* Monitor only: called after the clone, and to wait for attach clients. */
  int (*on_cloned)(struct run *run);
  int (*wait_gate)(struct run *run);
  int (*open_names)(struct run *run, uint32_t address, uint32_t port);
};

/* Checks a whole plan: every step decodes to its last byte, and stands where it may. Nonzero when not. */
int plan_check(struct reader plan, struct plan_facts *facts);
/* Does this (unchecked) plan's clone make a network namespace that belongs to our own user namespace? Then one can be made in advance. */
bool plan_makes_net(struct reader plan);
/* Reads the next step; nonzero at the end or when malformed. */
int plan_next(struct reader *r, struct step *step);
/* Performs the host's (or the child's) remaining steps; 0, or -1 with errno and run->index = the failed step. */
int run_steps(struct run *run);
/* Host, after its steps: lets the child go and waits until it has executed its program. 0, or -1 with child_step/child_errno. */
int run_release(struct run *run);
/* Handles at least one message of the other side; waits when `block`. -1 when the relay or the other side is gone. */
int run_pump(struct run *run, bool block);
/* Sends a message to the other side; fds may be NULL. */
int ctl_send(struct run *run, uint32_t kind, uint32_t a, uint32_t b, const int *fds, int n_fds);
/* Sends a frame to the helper (blocking). */
int relay_send(struct run *run, uint8_t type, const void *payload, size_t n);
/* Sends report bytes (in chunks) under a tag. */
int send_report(struct run *run, uint32_t tag, bool missing, const void *data, size_t n);
#endif
