/* The interpreter: a loop over steps, on both sides of the clone. It decides nothing beyond the order that the plan states. */
#include "plan.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

int plan_next(struct reader *r, struct step *step) {
  uint32_t length;
  if (read_u32(r, &length) || length > left(r)) return -1;
  struct reader body = {r->at, r->at + length};
  r->at += length;
  if (read_u16(&body, &step->code) || read_u8(&body, &step->where) || read_u8(&body, &step->ignored)) return -1;
  if (step->where > WHERE_CHILD || step->ignored > MAX_IGNORE) return -1;
  for (int i = 0; i < step->ignored; i++)
    if (read_u16(&body, &step->ignore[i])) return -1;
  if (decode_op(step->code, &body, &step->op)) return -1;
  return left(&body) == 0 ? 0 : -1;
}

int plan_check(struct reader plan, struct plan_facts *facts) {
  *facts = (struct plan_facts){0};
  uint32_t count;
  bool executes = false, reborn = false;
  if (left(&plan) > MAX_PLAN || read_u32(&plan, &count) || count > MAX_COUNT) return -1;
  for (uint32_t i = 0; i < count; i++) {
    struct step step;
    if (plan_next(&plan, &step)) return -1;
    bool child = step.where == WHERE_CHILD;
    if (child && (!facts->clones || executes)) return -1;
    switch (step.code) {
      case OP_CLONE:
        if (child || facts->clones) return -1;
        facts->clones = true;
        break;
      case OP_EXEC:
        if (!child) return -1;
        executes = true;
        break;
      case OP_ATTACH_GATE:
        facts->gate = true;
        break;
      case OP_SIGNAL:
      case OP_AWAIT:
        if (!facts->clones || (step.code == OP_SIGNAL ? step.op.signal.id : step.op.await.id) >= MAX_POINTS) return -1;
        break;
      case OP_WRITE_PID:
      case OP_CHILD_MAPS:
      case OP_CHILD_NS:
      case OP_HOLD_NS:
      case OP_RMDIR_LATE:
      case OP_BESIDE:
      case OP_CHILD_PROC:
        if (child || !facts->clones) return -1;
        break;
      case OP_ENGINE_GATE:
        if (child || !facts->clones) return -1;
        break;
      case OP_REBIRTH:
        if (!child || reborn) return -1;
        reborn = true;
        break;
      case OP_STDIO:
      case OP_EXEC_GATE:
      case OP_PRESERVE_FDS:
        if (!child) return -1;
        break;
      default:
        break;
    }
  }
  facts->steps = count;
  if (facts->clones && !executes) return -1;
  return left(&plan) == 0 ? 0 : -1;
}

static bool own_net(uint64_t flags) { return (flags & (CLONE_NEWNET | CLONE_NEWUSER)) == CLONE_NEWNET; }

bool plan_makes_net(struct reader plan) {
  uint32_t count, length;
  uint16_t code;
  if (read_u32(&plan, &count)) return false;
  while (read_u32(&plan, &length) == 0 && length <= left(&plan)) {
    struct reader body = {plan.at, plan.at + length}, peek = body;
    struct step step;
    if (read_u16(&peek, &code)) return false;
    if (code == OP_CLONE) {
      struct reader one = {plan.at - 4, plan.at + length};
      return plan_next(&one, &step) == 0 && own_net(step.op.clone.flags);
    }
    plan.at += length;
  }
  return false;
}

/* --- messages */

int relay_send(struct run *run, uint8_t type, const void *payload, size_t n) {
  uint8_t head[FRAME_HEAD];
  put_head(head, type, run->id, n);
  struct iovec parts[2] = {{head, sizeof head}, {(void *)payload, n}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = n > 0 ? 2 : 1};
  if (run->relay < 0) return errno = EPIPE, -1;
  for (;;) {
    if (sendmsg(run->relay, &message, MSG_NOSIGNAL) >= 0) return 0;
    if (errno != EINTR) return -1;
  }
}

int ctl_send(struct run *run, uint32_t kind, uint32_t a, uint32_t b, const int *fds, int n_fds) {
  struct ctl_message body = {kind, a, b};
  /* After a seccomp filter only the plainest calls can be counted on. */
  if (n_fds == 0) return write(run->ctl, &body, sizeof body) == (ssize_t)sizeof body ? 0 : -1;
  struct iovec part = {&body, sizeof body};
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(3 * sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int))};
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
  memcpy(CMSG_DATA(&control.head), fds, (size_t)n_fds * sizeof(int));
  return sendmsg(run->ctl, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int send_report(struct run *run, uint32_t tag, bool missing, const void *data, size_t n) {
  static uint8_t chunk[5 + REPORT_CHUNK]; /* touched only by plans that report */
  size_t sent = 0;
  do {
    size_t part = n - sent > REPORT_CHUNK ? REPORT_CHUNK : n - sent;
    uint8_t flags = (uint8_t)((missing ? REPORT_MISSING : 0) | (sent + part < n ? REPORT_MORE : 0));
    if (part > 0) memcpy(chunk + 5, (const char *)data + sent, part);
    put_u32(chunk, tag);
    chunk[4] = flags;
    if (run->child) {
      struct ctl_message body = {CTL_REPORT, tag, flags};
      struct iovec parts[2] = {{&body, sizeof body}, {chunk + 5, part}};
      if (writev(run->ctl, parts, part > 0 ? 2 : 1) < 0) return -1;
    } else if (relay_send(run, F_REPORT, chunk, 5 + part)) {
      return -1;
    }
    sent += part;
  } while (sent < n);
  return 0;
}

static void take_streams(struct run *run, const struct msghdr *message) {
  int fds[3] = {-1, -1, -1};
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR((struct msghdr *)message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(c), (n > 3 ? 3 : n) * sizeof(int));
  }
  for (int i = 0; i < 3; i++) fds[i] = fd_high(fds[i]);
  if (run->streams.tty) {
    run->streams.out = fds[0];
    run->streams.in = fds[0] >= 0 ? fcntl(fds[0], F_DUPFD_CLOEXEC, HIGH_FD) : -1;
  } else {
    run->streams.out = fds[0];
    run->streams.err = fds[1];
    run->streams.in = fds[2];
  }
}

/* The child may have gone on as another process, which is ours as well. */
static int follow_rebirth(struct run *run) {
  if (run->progress[2] == 0 || (pid_t)run->progress[2] == run->child_pid) return 0;
  while (waitpid(run->child_pid, NULL, 0) < 0 && errno == EINTR) {
  }
  run->child_pid = (pid_t)run->progress[2];
  close(run->child_pidfd);
  run->child_pidfd = fd_high(sys_pidfd_open(run->child_pid));
  if (run->child_pidfd < 0) return -1;
  return run->on_cloned ? run->on_cloned(run) : 0;
}

/* One message of the other side. -1: nothing there (EAGAIN) or it is gone. */
static int take_message(struct run *run, int flags) {
  struct {
    struct ctl_message head;
    uint8_t data[REPORT_CHUNK];
  } body;
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(3 * sizeof(int))];
  } control;
  struct iovec part = {&body, run->child ? sizeof body.head : sizeof body};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n;
  if (run->child) {
    do n = read(run->ctl, &body.head, sizeof body.head);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
  } else {
    /* ECONNRESET comes once, before what is still queued, when the other side has closed with something unread. */
    do n = recvmsg(run->ctl, &message, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
  }
  if (n < 0 && errno == EAGAIN) return -1;
  if (n < (ssize_t)sizeof body.head) {
    run->ctl_closed = true;
    errno = EPIPE;
    return -1;
  }
  switch (body.head.kind) {
    case CTL_POINT:
      if (!run->child && follow_rebirth(run) < 0) return -1;
      if (body.head.a < MAX_POINTS) run->reached |= 1ull << body.head.a;
      break;
    case CTL_GO:
      run->go = true;
      break;
    case CTL_READY:
      run->child_ready = true;
      break;
    case CTL_EXEC:
      run->exec_seen = true;
      break;
    case CTL_FAILED:
      run->child_step = (int)body.head.a;
      run->child_errno = (int)body.head.b;
      break;
    case CTL_STREAMS:
      if (!run->child) take_streams(run, &message);
      break;
    case CTL_REPORT:
      if (!run->child) {
        uint8_t head[FRAME_HEAD + 5];
        size_t data = (size_t)n - sizeof body.head;
        put_head(head, F_REPORT, run->id, 5 + data);
        put_u32(head + FRAME_HEAD, body.head.a);
        head[FRAME_HEAD + 4] = (uint8_t)body.head.b;
        struct iovec out[2] = {{head, sizeof head}, {body.data, data}};
        struct msghdr relayed = {.msg_iov = out, .msg_iovlen = 2};
        if (run->relay >= 0 && sendmsg(run->relay, &relayed, MSG_NOSIGNAL) < 0) return -1;
      }
      break;
    default:
      break;
  }
  return 0;
}

int run_pump(struct run *run, bool block) {
  if (run->ctl_closed) return errno = EPIPE, -1;
  if (run->child) return take_message(run, 0);
  if (block) {
    /* The helper's end means that nobody waits for this launch any more. */
    struct pollfd fds[2] = {{run->ctl, POLLIN, 0}, {run->relay, 0, 0}};
    while (poll(fds, 2, -1) < 0)
      if (errno != EINTR) return -1;
    if (fds[1].revents) return errno = ECANCELED, -1;
  }
  return take_message(run, MSG_DONTWAIT);
}

/* --- both sides */

static bool is_ignored(const struct step *step, int error) {
  for (int i = 0; i < step->ignored; i++)
    if (step->ignore[i] == error) return true;
  return false;
}

_Noreturn static void run_child(struct run *run);

static int start_child(struct run *run, const struct op_clone *op) {
  int pair[2], cgroup = op->cgroup == NO_SLOT ? -1 : SLOT_BASE + (int)op->cgroup;
  run->progress = mmap(NULL, PROGRESS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (run->progress == MAP_FAILED) return -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -1;
  run->ctl = pair[0];
  /* The child is born in the network namespace that is ready, as if the clone had made it: nobody can look at it before. */
  uint64_t flags = op->flags;
  bool ready = own_net(flags) && run->ready_net >= 0 && setns(run->ready_net, CLONE_NEWNET) == 0;
  if (ready) flags &= ~(uint64_t)CLONE_NEWNET;
  pid_t pid = sys_clone(flags, cgroup, &run->child_pidfd);
  int cloned = errno;
  if (pid != 0 && ready && setns(run->own_net, CLONE_NEWNET) < 0) _exit(1); /* nothing can be done in another's network */
  if (run->ready_net >= 0) {
    close(run->ready_net);
    close(run->own_net);
    run->ready_net = run->own_net = -1;
  }
  if (pid < 0) {
    close(pair[0]);
    close(pair[1]);
    errno = cloned;
    return -1;
  }
  if (pid == 0) {
    close(pair[0]);
    run->ctl = fd_high(pair[1]); /* now: a limit of descriptors may come before `rebirth` */
    run->child = true;
    /* A process of the container must not be able to trace us or read our memory before exec. With new user and PID namespaces
     * nobody else can see us yet, and /proc/self has to stay writable. */
    prctl(PR_SET_DUMPABLE, (op->flags & CLONE_NEWUSER && op->flags & CLONE_NEWPID) ? 1 : 0, 0, 0, 0);
    run_child(run);
  }
  close(pair[1]);
  run->child_pid = pid;
  run->progress[1] = (uint32_t)pid;
  run->child_pidfd = fd_high(run->child_pidfd);
  return run->on_cloned ? run->on_cloned(run) : 0;
}

int do_clone(struct run *run, const struct op_clone *op) { return start_child(run, op); }

int run_steps(struct run *run) {
  while (run->index < run->total) {
    struct step step;
    if (plan_next(&run->rest, &step)) return errno = EBADMSG, -1; /* cannot be: plan_check has passed */
    if (run->child) *run->progress = run->index;
    if ((step.where == WHERE_CHILD) == run->child && perform_op(run, step.code, &step.op) < 0 && !is_ignored(&step, errno)) return -1;
    run->index++;
  }
  return 0;
}

_Noreturn static void run_child(struct run *run) {
  /* Nothing of the container runs unsupervised: the kernel ends the child with its monitor. */
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  signals_restore();
  sys_close_range(3, ~0u, W_CLOSE_RANGE_CLOEXEC);
  run->index++; /* past the clone */
  if (run_steps(run) == 0) errno = ENOEXEC;
  ctl_send(run, CTL_FAILED, run->index, (uint32_t)errno, NULL, 0);
  _exit(127);
}

/* Closes what lies between the descriptors that stay. */
static int close_others(struct run *run, const struct op_rebirth *op) {
  unsigned first = 3 + op->keep, ctl = (unsigned)run->ctl; /* which lies above all slots */
  if (op->keep > SLOT_BASE - 3) return errno = EINVAL, -1;
  if (op->also != NO_SLOT) {
    unsigned also = SLOT_BASE + op->also;
    if (also > first && sys_close_range(first, also - 1, 0) < 0) return -1;
    first = also + 1;
  }
  return sys_close_range(first, ctl - 1, 0) < 0 || sys_close_range(ctl + 1, ~0u, 0) < 0 ? -1 : 0;
}

int do_rebirth(struct run *run, const struct op_rebirth *op) {
  bool all = op->keep == UINT32_MAX;
  if (!all && close_others(run, op) < 0) return -1;
  /* The old call: a filter may be in force that hides clone3. The kernel writes the pid before the new process runs. */
  long pid = syscall(SYS_clone, CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, NULL, &run->progress[2], NULL, NULL);
  if (pid < 0) return -1;
  if (pid > 0) _exit(0);
  /* Its parent's end is also the end of run->ctl, which it reads before exec. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return -1;
  if (all) return 0;
  if (setsid() < 0) return -1;
  return run->streams.tty ? ioctl(0, TIOCSCTTY, 0) : 0;
}

int run_release(struct run *run) {
  /* A child that has failed already does not listen. */
  if (ctl_send(run, CTL_GO, 0, 0, NULL, 0) < 0 && errno != EPIPE && errno != ECONNRESET) return -1;
  while (!run->ctl_closed && run_pump(run, true) == 0) {
  }
  if (!run->ctl_closed) return -1;
  if (run->child_step == NO_STEP && !run->exec_seen) {
    /* It died without a word: killed, or by its own seccomp filter. */
    run->child_step = (int)*run->progress;
    run->child_errno = ECHILD;
  }
  if (run->child_step != NO_STEP || follow_rebirth(run) < 0) return -1;
  close(run->ctl);
  run->ctl = -1;
  return 0;
}
