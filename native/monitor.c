#include "monitor.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

struct monitor M;
_Alignas(4096) uint8_t chunk[CHUNK];

/* Wait so long for the end of streams that another process holds open; as long as bytes come, up to the limit. */
enum { GRACE_MS = 100, GRACE_LIMIT_MS = 2000, IDLE_MS = 1000, HELD_MS = 50, LET_GO_MS = 20 };

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- start */

int read_launch(struct reader r, struct launch *l) {
  if (read_u8(&r, &l->flags) || read_u16(&r, &l->rows) || read_u16(&r, &l->columns) || read_u32(&r, &l->gate)) return -1;
  if (read_str(&r, &l->socket_path) || read_str(&r, &l->exit_path) || read_str(&r, &l->pid_path)) return -1;
  if (read_str(&r, &l->token) || read_bytes(&r, &l->detach_keys)) return -1;
  if (read_str(&r, &l->log_path) || read_u64(&r, &l->log_max_bytes) || read_u32(&r, &l->log_max_files)) return -1;
  if (read_u8(&r, &l->log_flags) || read_str(&r, &l->log_attrs)) return -1;
  if (read_strs(&r, &l->exit_reports) || l->exit_reports.count > MAX_EXIT_REPORTS || l->detach_keys.n > MAX_KEYS) return -1;
  if (l->socket_path.n >= sizeof M.socket_path || l->exit_path.n >= sizeof M.exit_path || l->pid_path.n >= sizeof M.pid_path) return -1;
  if (l->gate > MAX_CLIENTS || l->log_path.n > 1000 || l->log_attrs.n > MAX_ATTRS || (l->flags & L_DIRECT && l->token.n != 32)) return -1;
  l->plan = r;
  return 0;
}

static void ignore_signals(void) {
  static const int ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGTSTP};
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
}

void init_run(struct run *run, uint32_t id, struct reader plan) {
  *run = (struct run){.relay = RELAY_FD, .id = id, .ctl = -1, .child_pidfd = -1, .own_net = -1, .ready_net = -1, .held_ns = -1, .child_step = NO_STEP, .rest = plan};
  run->streams.in = run->streams.out = run->streams.err = -1;
  if (read_u32(&run->rest, &run->total)) run->total = 0;
}

static void send_failure(struct run *run, int step, int error) {
  uint8_t payload[8];
  put_u32(payload, (uint32_t)step);
  put_u32(payload + 4, (uint32_t)error);
  relay_send(run, F_FAILED, payload, sizeof payload);
}

_Noreturn void call_main(uint32_t id, struct reader plan) {
  struct plan_facts facts;
  struct run run;
  init_run(&run, id, plan);
  run.call = true;
  signal(SIGCHLD, SIG_DFL);
  umask(0);
  if (plan_check(plan, &facts) || facts.clones) send_failure(&run, NO_STEP, EBADMSG);
  else if (run_steps(&run) < 0) send_failure(&run, (int)run.index, errno);
  else relay_send(&run, F_DONE, NULL, 0);
  _exit(0);
}

/* Replaces a file in one step, so that a reader sees all of it or none. */
static int write_file(const char *path, const char *data, size_t n) {
  char temporary[sizeof M.exit_path + 8];
  stpcpy(stpcpy(temporary, path), ".tmp");
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -1;
  int result = write_all(fd, data, n);
  int saved = errno;
  close(fd);
  errno = saved;
  return result == 0 ? rename(temporary, path) : result;
}

static int write_pid_file(struct run *run) {
  char text[80], *p;
  M.start_time = process_start_time(run->child_pid);
  p = put_decimal(text, (uint64_t)getpid());
  *p++ = ' ';
  p = put_decimal(p, (uint64_t)run->child_pid);
  *p++ = ' ';
  p = put_decimal(p, M.start_time);
  *p++ = '\n';
  return write_file(M.pid_path, text, (size_t)(p - text));
}

/* Waits until the announced attach clients are there; ends when the helper goes (nobody waits for the launch then) or the child. */
static int wait_gate(struct run *run) {
  while (M.attached < M.gate) {
    struct pollfd fds[3 + MAX_CLIENTS] = {{M.listener, POLLIN, 0}, {run->relay, 0, 0}, {run->ctl, POLLIN, 0}};
    struct client *who[MAX_CLIENTS];
    nfds_t n = 3;
    for (int i = 0; i < MAX_CLIENTS; i++)
      if (M.clients[i].state == C_NEW) {
        who[n - 3] = &M.clients[i];
        fds[n++] = (struct pollfd){M.clients[i].fd, POLLIN, 0};
      }
    if (poll(fds, n, -1) < 0 && errno != EINTR) return -1;
    if (fds[1].revents) return errno = ECANCELED, -1;
    if (fds[2].revents && run_pump(run, false) < 0 && errno != EAGAIN) return -1;
    if (run->child_step != NO_STEP) return errno = ECANCELED, -1;
    for (nfds_t i = 3; i < n; i++)
      if (fds[i].revents) client_readable(who[i - 3]);
    if (fds[0].revents) client_accept();
  }
  return 0;
}

static void reap_child(struct run *run) {
  if (run->child_pid <= 0) return;
  kill(run->child_pid, SIGKILL);
  while (waitpid(run->child_pid, NULL, 0) < 0 && errno == EINTR) {
  }
  pid_t reborn = run->progress ? (pid_t)run->progress[2] : 0;
  if (reborn <= 0 || reborn == run->child_pid) return;
  kill(reborn, SIGKILL);
  while (waitpid(reborn, NULL, 0) < 0 && errno == EINTR) {
  }
}

/* The launch has failed: nothing may be left running, and the engine learns which step it was. */
_Noreturn void give_up(struct run *run, int step, int error) {
  if (run->ctl >= 0) {
    /* A step of the host often fails because the child has: then the child's own failure is the reason. */
    while (run->child_step == NO_STEP && !run->ctl_closed && run_pump(run, false) == 0) {
    }
    if (run->ctl_closed && run->child_step == NO_STEP) {
      run->child_step = (int)*run->progress;
      run->child_errno = ECHILD;
    }
    if (run->child_step != NO_STEP) {
      step = run->child_step;
      error = run->child_errno;
    }
  }
  reap_child(run);
  unlink(M.socket_path);
  if (M.pid_path[0]) unlink(M.pid_path);
  send_failure(run, step, error);
  _exit(0);
}

static void copy_launch(const struct launch *l) {
  M.flags = l->flags;
  M.gate = l->gate;
  strcpy(M.socket_path, l->socket_path.p);
  strcpy(M.exit_path, l->exit_path.p);
  strcpy(M.pid_path, l->pid_path.p);
  const uint8_t *at = l->exit_reports.p;
  char *to = M.exit_reports;
  for (uint32_t i = 0; i < l->exit_reports.count; i++) {
    const char *path = strs_next(&at);
    if (strlen(path) + 1 > (size_t)(M.exit_reports + sizeof M.exit_reports - to)) break;
    to = stpcpy(to, path) + 1;
    M.n_exit_reports++;
  }
}

static void adopt_streams(struct run *run) {
  M.stream[OUT] = run->streams.out;
  M.stream[ERR] = run->streams.err;
  M.child_stdin = run->streams.in;
  int ours[3] = {M.stream[OUT], M.stream[ERR], M.child_stdin};
  for (int i = 0; i < 3; i++)
    if (ours[i] >= 0) fcntl(ours[i], F_SETFL, fcntl(ours[i], F_GETFL) | O_NONBLOCK);
  if (M.flags & L_TTY && !(M.flags & L_OPEN_STDIN)) stdin_close();
}

static void loop(void);

/* The descriptors of our own network namespace and of a new one, which are -1 where there can be none. */
static void make_net(int net[2]) {
  net[0] = fd_high(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  net[1] = -1;
  if (net[0] < 0 || unshare(CLONE_NEWNET) < 0) return;
  net[1] = fd_high(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (setns(net[0], CLONE_NEWNET) < 0) _exit(1);
}

/* What a monitor is, whatever it will launch. */
static void begin(void) {
  M.listener = M.child_stdin = M.stream[OUT] = M.stream[ERR] = -1;
  signal(SIGCHLD, SIG_DFL);
  ignore_signals();
  umask(0);
  setsid();
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  dup2(0, 1);
  dup2(0, 2);
}

_Noreturn void monitor_wait(bool makes_net, uint8_t *frame, size_t frame_size) {
  int net[2] = {-1, -1};
  begin();
  if (makes_net) make_net(net);
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(4 * sizeof(int))];
  } control;
  struct iovec part = {frame, MAX_HANDED};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n;
  do n = recvmsg(RELAY_FD, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n <= FRAME_HEAD) _exit(0); /* not needed any more */
  /* The lowest that are free are DIRECT_FD and up, in this order. */
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  int fds[4];
  if (c && c->cmsg_len == CMSG_LEN(sizeof fds)) {
    memcpy(fds, CMSG_DATA(c), sizeof fds);
    for (int i = 0; i < 4; i++)
      if (fds[i] != DIRECT_FD + i) _exit(1);
  }
  struct launch launch;
  if (read_launch((struct reader){frame + FRAME_HEAD, frame + n}, &launch)) _exit(1);
  monitor_main(get_u32(frame + 5), &launch, frame, frame_size, net);
}

_Noreturn void monitor_main(uint32_t id, const struct launch *l, void *frame, size_t frame_size, const int *net) {
  struct run *run = &M.run;
  struct plan_facts facts;
  init_run(run, id, l->plan);
  if (net) run->own_net = net[0], run->ready_net = net[1];
  else begin();
  set_title("wherry-monitor", l->socket_path.p);
  copy_launch(l);
  if (plan_check(l->plan, &facts) || !facts.clones) give_up(run, NO_STEP, EBADMSG);
  run->streams.tty = l->flags & L_TTY;
  run->streams.open_stdin = l->flags & L_OPEN_STDIN;
  run->streams.rows = l->rows;
  run->streams.columns = l->columns;
  run->on_cloned = M.pid_path[0] ? write_pid_file : NULL;
  run->wait_gate = wait_gate;
  run->open_names = names_open;
  unlink(M.exit_path); /* of an earlier run */
  M.listener = fd_high(listen_at(M.socket_path));
  if (M.listener < 0) give_up(run, NO_STEP, errno);
  if (l->flags & L_LOG && log_open(l) < 0) give_up(run, NO_STEP, errno);
  if (l->flags & L_DIRECT) client_add_direct(l->flags, &l->detach_keys);
  if (l->gate > 0) relay_send(run, F_LISTENING, NULL, 0);
  if (run_steps(run) < 0) give_up(run, (int)run->index, errno);
  if (facts.gate && wait_gate(run) < 0) give_up(run, (int)run->index, errno);
  if (run_release(run) < 0) {
    if (run->child_step == NO_STEP) run->child_step = (int)run->index, run->child_errno = errno;
    give_up(run, run->child_step, run->child_errno);
  }
  M.launched = true;
  if (!M.pid_path[0]) M.start_time = process_start_time(run->child_pid); /* it is ours to reap: the number is still its own */
  adopt_streams(run);
  uint8_t payload[16];
  put_u32(payload, (uint32_t)getpid());
  put_u32(payload + 4, (uint32_t)run->child_pid);
  put_u64(payload + 8, M.start_time);
  relay_send(run, F_LAUNCHED, payload, sizeof payload);
  /* Slots, the page shared with the child and the plan's bytes are no longer needed. */
  sys_close_range(SLOT_BASE, SLOT_BASE + MAX_SLOTS - 1, 0);
  munmap((void *)run->progress, PROGRESS_SIZE);
  run->progress = NULL;
  madvise(frame, frame_size, MADV_DONTNEED);
  if (run->relay >= 0) fcntl(run->relay, F_SETFL, O_NONBLOCK);
  loop();
  _exit(0);
}

/* --- the container's stdin */

static void stdin_close_now(void) {
  if (M.child_stdin >= 0) close(M.child_stdin);
  M.child_stdin = -1;
  queue_free(&M.pending_stdin);
}

void stdin_close(void) {
  if (queue_empty(&M.pending_stdin)) stdin_close_now();
  else M.stdin_closing = true;
}

static void stdin_drain(void) {
  struct queue *q = &M.pending_stdin;
  while (M.child_stdin >= 0 && !queue_empty(q)) {
    ssize_t done = write(M.child_stdin, q->data + q->start, q->end - q->start);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) return;
    if (done < 0) {
      stdin_close_now(); /* the container has closed it */
      return;
    }
    q->start += (size_t)done;
  }
  queue_free(q);
  if (M.stdin_closing) stdin_close_now();
}

void stdin_write(const uint8_t *data, size_t n) {
  if (M.child_stdin < 0 || M.stdin_closing) return;
  if (queue_push(&M.pending_stdin, data, n)) stdin_drain();
}

/* --- controls and events */

void broadcast(uint8_t type, const void *payload, size_t n) {
  if (M.run.relay >= 0 && relay_send(&M.run, type, payload, n) < 0 && errno != EAGAIN) {
    close(M.run.relay);
    M.run.relay = -1;
  }
  for (int i = 0; i < MAX_CLIENTS; i++)
    if (M.clients[i].state == C_CONTROL) client_frame(&M.clients[i], type, payload, n);
}

static void reply(uint32_t request, int error, struct client *to) {
  uint8_t payload[8];
  put_u32(payload, request);
  put_u32(payload + 4, (uint32_t)error);
  if (to) client_frame(to, F_REPLY, payload, sizeof payload);
  else relay_send(&M.run, F_REPLY, payload, sizeof payload);
}

static void read_streams(int most);

void control(uint8_t type, struct reader payload, uint32_t request, struct client *from) {
  uint32_t signal;
  uint16_t rows, columns;
  int error = 0;
  switch (type) {
    case F_KILL:
      if (read_u32(&payload, &signal) || left(&payload)) error = EBADMSG;
      else if (M.init_ended) error = ESRCH;
      else if (sys_pidfd_send_signal(M.run.child_pidfd, (int)signal) < 0) error = errno;
      break;
    case F_RESIZE:
      if (read_u16(&payload, &rows) || read_u16(&payload, &columns) || left(&payload)) {
        error = EBADMSG;
      } else if (M.flags & L_TTY && M.stream[OUT] >= 0) {
        struct winsize size = {.ws_row = rows, .ws_col = columns};
        if (ioctl(M.stream[OUT], TIOCSWINSZ, &size) < 0) error = errno;
      }
      break;
    case F_LOG_PACKED:
      error = log_packed(payload);
      break;
    case F_LET_GO:
      M.let_go_at = 0;
      break;
    case F_FLUSH:
      read_streams(64);
      log_flush();
      break;
    default:
      error = ENOSYS;
      break;
  }
  reply(request, error, from);
}

static void read_relay(void) {
  uint8_t frame[64];
  ssize_t n = recv(M.run.relay, frame, sizeof frame, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    close(M.run.relay);
    M.run.relay = -1;
  } else if (n >= FRAME_HEAD && get_u32(frame) == (uint32_t)n - 4) {
    control(frame[4], (struct reader){frame + FRAME_HEAD, frame + n}, get_u32(frame + 5), NULL);
  }
}

/* --- output */

static void end_stream(int stream) {
  close(M.stream[stream]);
  M.stream[stream] = -1;
  log_end(stream);
}

/* After init's end everything is read, even when a watcher is slow (its queue grows then): the exit must not wait for a watcher. */
static bool stream_wanted(int stream) { return M.stream[stream] >= 0 && (M.init_ended || (clients_ready(stream) && !log_held())); }

/* Reads at most `most` chunks of each stream. */
static void read_streams(int most) {
  for (int stream = 0; stream < 2; stream++)
    for (int i = 0; i < most && stream_wanted(stream); i++) {
      ssize_t n = read(M.stream[stream], chunk, sizeof chunk);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n <= 0) { /* a pty answers EIO when nobody has it open */
        end_stream(stream);
        break;
      }
      if (M.init_ended && now_ms() + GRACE_MS < M.drain_limit) M.drain_until = now_ms() + GRACE_MS;
      log_feed(stream, chunk, (size_t)n);
      log_flush();
      clients_output(stream, chunk, (size_t)n);
    }
}

/* --- the end */

static void reap(int signals) {
  struct signalfd_siginfo info;
  while (read(signals, &info, sizeof info) > 0) {
  }
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    if (pid != M.run.child_pid) continue;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    M.ended_at_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    M.status = status;
    M.init_ended = true;
    M.drain_until = now_ms() + GRACE_MS;
    M.drain_limit = M.drain_until - GRACE_MS + GRACE_LIMIT_MS;
  }
}

/* {"code":0,"signal":0,"atNs":"…","reports":["…",null]} */
static size_t format_exit(char *to) {
  int signal = WIFSIGNALED(M.status) ? WTERMSIG(M.status) : 0;
  char *p = stpcpy(to, "{\"code\":");
  p = put_decimal(p, (uint64_t)(signal ? 128 + signal : WEXITSTATUS(M.status)));
  p = stpcpy(p, ",\"signal\":");
  p = put_decimal(p, (uint64_t)signal);
  p = stpcpy(p, ",\"atNs\":\"");
  p = put_decimal(p, (uint64_t)M.ended_at_ns);
  p = stpcpy(p, "\",\"reports\":[");
  const char *path = M.exit_reports;
  size_t share = (MAX_RELAY - 1024) / 6 / (M.n_exit_reports ? M.n_exit_reports : 1);
  for (uint32_t i = 0; i < M.n_exit_reports; i++, path += strlen(path) + 1) {
    if (i > 0) *p++ = ',';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t text[4096];
    ssize_t n = fd < 0 ? -1 : read_full(fd, text, share < sizeof text ? share : sizeof text);
    if (fd >= 0) close(fd);
    size_t kept;
    const char *last = n < 0 ? oom_text(path, &kept) : NULL;
    if (last) {
      n = (ssize_t)kept;
      memcpy(text, last, kept);
    }
    if (n < 0) {
      p = stpcpy(p, "null");
      continue;
    }
    *p++ = '"';
    p = json_escape(p, text, (size_t)n, false);
    *p++ = '"';
  }
  p = stpcpy(p, "]}\n");
  return (size_t)(p - to);
}

/* What the container leaves and nobody waits for: it goes when those who wait for its end have had their answer, or whoever needs its place asks. */
static void let_go(void) {
  const char *path = M.run.late.paths;
  uint8_t all = M.run.late.count > 0;
  for (uint32_t i = 0; i < M.run.late.count; i++, path += strlen(path) + 1)
    if (rmdir(path) < 0 && errno != ENOENT) all = 0;
  if (M.run.held_ns >= 0) close(M.run.held_ns); /* returns when its mounts are down */
  M.let_go = true;
  if (M.run.late.paths) broadcast(F_LEFT, &all, 1);
}

/* Everything has been read: log, record, and only then the news. */
static void report_exit(void) {
  for (int stream = 0; stream < 2; stream++)
    if (M.stream[stream] >= 0) end_stream(stream);
  stdin_close_now();
  names_close();
  char *record = mmap(NULL, MAX_RELAY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  size_t n = record == MAP_FAILED ? 0 : format_exit(record);
  if (n > 0) write_file(M.exit_path, record, n);
  close(M.listener);
  M.listener = -1;
  unlink(M.socket_path);
  clients_finish();
  if (M.run.relay >= 0) fcntl(M.run.relay, F_SETFL, 0);
  if (n > 0) {
    broadcast(F_EXITED, record, n);
    munmap(record, MAX_RELAY);
  }
  M.reported = true;
  M.let_go = !M.run.late.paths && M.run.held_ns < 0;
  M.let_go_at = now_ms() + LET_GO_MS;
}

/* --- the loop */

enum source { S_OOM, S_PRESSURE, S_SIGNALS, S_RELAY, S_LISTENER, S_STDIN, S_OUT, S_ERR, S_CLIENT, S_NAMES };
struct source_of {
  uint8_t source, client, what; /* what: 0 connection or input, 1/2 output */
};

static nfds_t add(struct pollfd *fds, struct source_of *of, nfds_t n, int fd, short events, struct source_of source) {
  if (fd < 0) return n;
  fds[n] = (struct pollfd){fd, events, 0};
  of[n] = source;
  return n + 1;
}

static nfds_t watch_clients(struct pollfd *fds, struct source_of *of, nfds_t n) {
  for (uint8_t i = 0; i < MAX_CLIENTS; i++) {
    struct client *c = &M.clients[i];
    if (c->state == C_FREE) continue;
    short input = client_may_read(c) ? POLLIN : 0;
    if (c->state != C_DIRECT) {
      short output = queue_empty(&c->queue[0]) ? 0 : POLLOUT;
      n = add(fds, of, n, c->fd, (short)(input | output), (struct source_of){S_CLIENT, i, 0});
      continue;
    }
    n = add(fds, of, n, c->fd, 0, (struct source_of){S_CLIENT, i, 3});
    if (input) n = add(fds, of, n, c->in, POLLIN, (struct source_of){S_CLIENT, i, 0});
    for (uint8_t o = 0; o < 2; o++)
      if (!queue_empty(&c->queue[o])) n = add(fds, of, n, c->out[o], POLLOUT, (struct source_of){S_CLIENT, i, (uint8_t)(1 + o)});
  }
  return n;
}

static void client_event(struct client *c, uint8_t what, short events) {
  if (c->state == C_FREE) return;
  if (what == 3 && c->state == C_DIRECT) { /* the stub's connection: only its end is news */
    uint8_t gone = 2;
    client_drop(c);
    broadcast(F_DIRECT, &gone, 1);
    return;
  }
  if (what == 1 || what == 2) {
    client_drain(c, what - 1);
    return;
  }
  if (what == 3) return;
  if (events & POLLOUT && c->state != C_DIRECT) client_drain(c, 0);
  if (c->state == C_FREE) return;
  if (client_may_read(c) && events & (POLLIN | POLLHUP | POLLERR)) client_readable(c);
  else if (events & (POLLHUP | POLLERR) && c->state != C_DIRECT) client_drop(c); /* both directions are closed */
}

/* How long to wait: for the grace after init's end, for a look at a terminal's foreground, for a client to see the end, or until buffers may be given back. */
static int timeout_ms(bool *idle) {
  int64_t wait = IDLE_MS, now = now_ms();
  bool bounded = false;
  if (M.init_ended && !M.reported) wait = M.drain_until - now, bounded = true;
  if (M.reported && !M.let_go && M.let_go_at - now < wait) wait = M.let_go_at - now, bounded = true;
  for (int i = 0; i < MAX_CLIENTS; i++) {
    struct client *c = &M.clients[i];
    int64_t until = c->state == C_DIRECT ? c->background_until : c->state == C_LINGER ? c->linger_until : 0;
    if (until <= now) continue;
    if (until - now < wait) wait = until - now;
    bounded = true;
  }
  if (log_held() && !M.init_ended && wait > HELD_MS) wait = HELD_MS, bounded = true; /* nobody tells us: look again */
  if (bounded) return wait < 0 ? 0 : (int)wait;
  return *idle ? -1 : IDLE_MS;
}

static void loop(void) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  int signals = fd_high(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  int oom = oom_watch(), pressure = pressure_watch();
  reap(signals); /* it may have ended already */
  bool idle = false;
  for (;;) {
    if (M.init_ended && !M.reported && ((M.stream[OUT] < 0 && M.stream[ERR] < 0) || now_ms() >= M.drain_until)) report_exit();
    if (M.reported) {
      clients_finish();
      if (!M.let_go && now_ms() >= M.let_go_at) let_go();
      if (M.let_go && !clients_pending()) return;
    }
    struct pollfd fds[8 + 4 * MAX_CLIENTS + NAME_FDS];
    struct source_of of[8 + 4 * MAX_CLIENTS + NAME_FDS];
    nfds_t n = 0;
    n = add(fds, of, n, signals, POLLIN, (struct source_of){S_SIGNALS, 0, 0});
    n = add(fds, of, n, oom, POLLIN, (struct source_of){S_OOM, 0, 0});
    n = add(fds, of, n, pressure, POLLPRI, (struct source_of){S_PRESSURE, 0, 0});
    n = add(fds, of, n, M.run.relay, POLLIN, (struct source_of){S_RELAY, 0, 0});
    n = add(fds, of, n, M.listener, POLLIN, (struct source_of){S_LISTENER, 0, 0});
    if (!queue_empty(&M.pending_stdin)) n = add(fds, of, n, M.child_stdin, POLLOUT, (struct source_of){S_STDIN, 0, 0});
    for (uint8_t s = 0; s < 2; s++)
      if (stream_wanted(s)) n = add(fds, of, n, M.stream[s], POLLIN, (struct source_of){(uint8_t)(S_OUT + s), 0, 0});
    n = watch_clients(fds, of, n);
    for (uint8_t i = 0; i < NAME_FDS; i++) {
      short events = 0;
      int fd = names_fd(i, &events);
      n = add(fds, of, n, fd, events, (struct source_of){S_NAMES, 0, i});
    }
    int ready = poll(fds, n, timeout_ms(&idle));
    if (ready < 0 && errno != EINTR) return;
    if (ready == 0 && !idle && !M.init_ended) {
      log_idle();
      madvise(chunk, sizeof chunk, MADV_DONTNEED);
      idle = true;
    }
    bool output = false, signalled = false;
    for (nfds_t i = 0; ready > 0 && i < n; i++) {
      if (!fds[i].revents) continue;
      switch (of[i].source) {
        case S_OOM:
          oom_event(oom);
          break;
        case S_PRESSURE:
          if (!pressure_event(pressure, fds[i].revents)) close(pressure), pressure = -1;
          break;
        case S_SIGNALS:
          signalled = true;
          break;
        case S_RELAY:
          if (M.run.relay == fds[i].fd) read_relay();
          break;
        case S_LISTENER:
          client_accept();
          break;
        case S_STDIN:
          stdin_drain();
          break;
        case S_NAMES:
          names_event(of[i].what, fds[i].revents);
          idle = false;
          break;
        case S_OUT:
        case S_ERR:
          output = true;
          break;
        default:
          client_event(&M.clients[of[i].client], of[i].what, fds[i].revents);
          idle = false;
          break;
      }
    }
    if (output) {
      read_streams(4);
      idle = false;
    }
    if (signalled) reap(signals);
  }
}
