/* Those who watch a container's streams or feed its stdin: connections on the monitor's socket, and the descriptors of a `wherry` command.
 * A slow one holds the container back, as with Docker: its stream is not read while output is queued. Memory stays bounded by one chunk each. */
#include "monitor.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* How long a client that has been told the end may take to see it and to close its side. */
#define LINGER_MS 10000

bool queue_empty(const struct queue *q) { return q->start == q->end; }

void queue_free(struct queue *q) {
  if (q->data) munmap(q->data, q->capacity);
  *q = (struct queue){0};
}

bool queue_push(struct queue *q, const void *data, size_t n) {
  if (q->end + n > q->capacity) {
    size_t used = q->end - q->start, capacity = q->capacity ? q->capacity : CHUNK + 4096;
    while (capacity < used + n) capacity *= 2;
    if (capacity > QUEUE_MAX) return false;
    uint8_t *bigger = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bigger == MAP_FAILED) return false;
    if (used > 0) memcpy(bigger, q->data + q->start, used);
    if (q->data) munmap(q->data, q->capacity);
    *q = (struct queue){bigger, capacity, 0, used};
  }
  memcpy(q->data + q->end, data, n);
  q->end += n;
  return true;
}

static bool is_open(const struct client *c) { return c->state == C_ATTACH || c->state == C_DIRECT; }
static int queue_of(const struct client *c, int stream) { return c->state == C_DIRECT ? stream : 0; }
static bool wants(const struct client *c, int stream) { return is_open(c) && c->wants & (stream == OUT ? WANT_STDOUT : WANT_STDERR); }

bool clients_ready(int stream) {
  for (int i = 0; i < MAX_CLIENTS; i++)
    if (wants(&M.clients[i], stream) && !queue_empty(&M.clients[i].queue[queue_of(&M.clients[i], stream)])) return false;
  return true;
}

/* --- the end of a client */

/* A client that fed stdin is done: with StdinOnce that is the container's end of file. */
static void input_over(struct client *c) {
  if (c->stdin_ended || !(c->wants & WANT_STDIN)) return;
  c->stdin_ended = true;
  if (M.flags & L_STDIN_ONCE && !(M.flags & L_TTY)) stdin_close();
}

void client_drop(struct client *c) {
  if (c->state == C_FREE) return;
  if (is_open(c)) input_over(c);
  bool direct = c->state == C_DIRECT;
  c->state = C_FREE;
  close(c->fd);
  if (direct) {
    for (int i = 0; i < 2; i++)
      if (c->out[i] >= 0) close(c->out[i]);
    if (c->in >= 0) close(c->in);
  }
  queue_free(&c->queue[0]);
  queue_free(&c->queue[1]);
}

/* The stub's descriptors are done with; `how`: 0 all delivered, 1 detached by keys, 2 the stub is gone, 3 its output is closed. */
static void direct_over(struct client *c, uint8_t how) {
  client_drop(c);
  broadcast(F_DIRECT, &how, 1);
}

static void client_lost(struct client *c) {
  if (c->state == C_DIRECT) direct_over(c, 2);
  else client_drop(c);
}

/* --- output */

/* Writes to a descriptor without ever blocking on it. Sockets have a flag for that; what could be opened anew has O_NONBLOCK of its own (the stub's
 * description is shared with other programs and must keep its flags); the rest is polled, and then takes PIPE_BUF bytes. */
static ssize_t write_some(struct client *c, int which, const uint8_t *data, size_t n) {
  if (c->state == C_ATTACH) return send(c->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
  int fd = c->out[which];
  ssize_t done = send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (done >= 0 || errno != ENOTSOCK) return done;
  if (c->reopened[1 + which]) return write(fd, data, n);
  struct stat st;
  if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) return errno = EAGAIN, -1; /* client_drain polls */
  return write(fd, data, n);
}

/* The reader is gone; the container goes on. (The docker command would die of SIGPIPE here.) */
static void output_broken(struct client *c) {
  if (c->state == C_DIRECT) direct_over(c, 3);
  else client_drop(c);
}

void client_drain(struct client *c, int which) {
  struct queue *q = &c->queue[which];
  while (is_open(c) && !queue_empty(q)) {
    size_t n = q->end - q->start;
    ssize_t done = write_some(c, which, q->data + q->start, n);
    if (done < 0 && errno == EAGAIN && c->state == C_DIRECT && !c->reopened[1 + which]) {
      /* poll(2) has said that the descriptor takes PIPE_BUF bytes (a terminal: some). */
      done = write(c->out[which], q->data + q->start, n > 512 ? 512 : n);
      if (done > 0) {
        q->start += (size_t)done;
        break;
      }
    }
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) return;
    if (done <= 0) {
      output_broken(c);
      return;
    }
    q->start += (size_t)done;
  }
  if (is_open(c) && queue_empty(q)) queue_free(q);
}

static void send_to(struct client *c, int which, const uint8_t *data, size_t n) {
  size_t sent = 0;
  if (queue_empty(&c->queue[which])) {
    ssize_t done = write_some(c, which, data, n);
    if (done < 0 && errno != EAGAIN && errno != EINTR) {
      output_broken(c);
      return;
    }
    if (done > 0) sent = (size_t)done;
  }
  if (sent < n && !queue_push(&c->queue[which], data + sent, n - sent)) client_lost(c);
}

/* Docker's frame: stream number, three zeros, length (big endian), data. */
static void send_framed(struct client *c, int stream, const uint8_t *data, size_t n) {
  uint8_t head[8] = {(uint8_t)(stream + 1), 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
  struct iovec parts[2] = {{head, sizeof head}, {(void *)(uintptr_t)data, n}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  size_t sent = 0;
  if (queue_empty(&c->queue[0])) {
    ssize_t done = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN && errno != EINTR) {
      client_drop(c);
      return;
    }
    if (done > 0) sent = (size_t)done;
  }
  bool kept = true;
  if (sent < sizeof head) {
    kept = queue_push(&c->queue[0], head + sent, sizeof head - sent);
    sent = sizeof head;
  }
  size_t from = sent - sizeof head;
  if (kept && from < n) kept = queue_push(&c->queue[0], data + from, n - from);
  if (!kept) client_lost(c);
}

void clients_output(int stream, const uint8_t *data, size_t n) {
  for (int i = 0; i < MAX_CLIENTS; i++) {
    struct client *c = &M.clients[i];
    if (!wants(c, stream)) continue;
    if (c->state == C_ATTACH && !(M.flags & L_TTY)) send_framed(c, stream, data, n);
    else send_to(c, queue_of(c, stream), data, n);
  }
}

bool clients_pending(void) {
  for (int i = 0; i < MAX_CLIENTS; i++)
    if (is_open(&M.clients[i]) || M.clients[i].state == C_LINGER) return true;
  return false;
}

static void finish(struct client *c) {
  if (c->state == C_DIRECT) {
    direct_over(c, 0);
  } else if (!(c->wants & WANT_STDIN) || c->stdin_ended || shutdown(c->fd, SHUT_WR) < 0) {
    client_drop(c);
  } else {
    c->state = C_LINGER;
    c->linger_until = now_ms() + LINGER_MS;
  }
}

void clients_finish(void) {
  for (int i = 0; i < MAX_CLIENTS; i++) {
    struct client *c = &M.clients[i];
    if (c->state == C_LINGER && now_ms() >= c->linger_until) client_drop(c);
    if (is_open(c) && queue_empty(&c->queue[0]) && queue_empty(&c->queue[1])) finish(c);
  }
}

/* --- input */

static void detach(struct client *c) {
  if (c->state == C_DIRECT) direct_over(c, 1);
  else client_drop(c);
}

/* Passes typed bytes on, looking for the detach keys; a byte that may begin them waits for the next. True when they were typed. */
static bool pass_input(struct client *c, uint8_t *data, size_t n) {
  if (c->n_keys == 0) {
    stdin_write(data, n);
    return false;
  }
  size_t start = 0; /* of what is not yet passed on */
  for (size_t i = 0; i < n; i++) {
    if (data[i] == c->keys[c->matched]) {
      if (c->matched == 0 && i > start) stdin_write(data + start, i - start);
      start = i + 1;
      if (++c->matched == c->n_keys) return true;
    } else if (c->matched > 0) {
      stdin_write(c->keys, c->matched);
      c->matched = 0;
      start = i--; /* look at this byte again as a beginning */
    }
  }
  if (n > start) stdin_write(data + start, n - start);
  return false;
}

/* A process in the background must not take the terminal's input from the shell; the kernel cannot tell for us, because it is not our terminal. */
static bool in_foreground(pid_t pid) {
  char path[40] = "/proc/", text[512];
  strcpy(put_decimal(path + 6, (uint64_t)pid), "/stat");
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read_full(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return false;
  text[n] = 0;
  char *p = strrchr(text, ')');
  if (!p || strlen(p) < 5) return false;
  /* ") S ppid pgrp session tty_nr tpgid" */
  strtol(p + 4, &p, 10);
  long pgrp = strtol(p, &p, 10);
  strtol(p, &p, 10);
  strtol(p, &p, 10);
  return pgrp == strtol(p, &p, 10);
}

bool client_may_read(struct client *c) {
  if (c->state == C_NEW || c->state == C_CONTROL || c->state == C_LINGER) return true;
  if (!is_open(c) || !M.launched || c->stdin_ended) return false;
  if (!(c->wants & WANT_STDIN)) return c->state == C_ATTACH; /* to see its end */
  return queue_empty(&M.pending_stdin) && (c->background_until == 0 || now_ms() >= c->background_until);
}

static void read_input(struct client *c) {
  if (c->is_tty) {
    c->background_until = 0;
    if (!in_foreground(c->peer)) {
      c->background_until = now_ms() + 200;
      return;
    }
  }
  ssize_t n = c->state == C_ATTACH || !c->reopened[0] ? recv(c->in, chunk, sizeof chunk, MSG_DONTWAIT) : read(c->in, chunk, sizeof chunk);
  if (n < 0 && errno == ENOTSOCK) n = read(c->in, chunk, sizeof chunk);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) {
    if (c->wants & WANT_STDIN && pass_input(c, chunk, (size_t)n)) detach(c);
    return;
  }
  if (n < 0 && c->state == C_ATTACH) {
    client_drop(c);
    return;
  }
  /* End of file. Without StdinOnce Docker ends the whole attach here; a watcher that only closed its sending side goes on watching. */
  bool fed = c->wants & WANT_STDIN;
  if (fed && c->matched > 0) stdin_write(c->keys, c->matched);
  c->matched = 0;
  input_over(c);
  c->stdin_ended = true;
  if (fed && c->state == C_ATTACH && !(M.flags & L_STDIN_ONCE && !(M.flags & L_TTY))) client_drop(c);
}

/* --- connections */

static struct client *free_client(void) {
  struct client *oldest_new = NULL;
  for (int i = 0; i < MAX_CLIENTS; i++) {
    if (M.clients[i].state == C_FREE) return &M.clients[i];
    if (M.clients[i].state == C_NEW && !oldest_new) oldest_new = &M.clients[i];
  }
  if (oldest_new) client_drop(oldest_new); /* it never said what it wants */
  return oldest_new;
}

void client_accept(void) {
  for (;;) {
    int fd = fd_high(accept4(M.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd < 0) return;
    struct client *c = free_client();
    if (!c || !peer_is_trusted(fd, NULL)) {
      close(fd);
      continue;
    }
    *c = (struct client){.state = C_NEW, .fd = fd, .in = fd, .out = {fd, -1}};
  }
}

int client_frame(struct client *c, uint8_t type, const void *payload, size_t n) {
  uint8_t head[FRAME_HEAD];
  put_head(head, type, 0, n);
  struct iovec parts[2] = {{head, sizeof head}, {(void *)(uintptr_t)payload, n}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = n > 0 ? 2 : 1};
  /* A control connection that does not read its answers is cut off. */
  if (sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)(n + sizeof head)) return 0;
  client_drop(c);
  return -1;
}

static void hello_control(struct client *c) {
  uint8_t payload[16];
  c->state = C_CONTROL;
  put_u32(payload, (uint32_t)getpid());
  put_u32(payload + 4, (uint32_t)M.run.child_pid);
  put_u64(payload + 8, M.start_time);
  client_frame(c, F_LAUNCHED, payload, sizeof payload);
}

static void set_keys(struct client *c, const struct bytes *keys) {
  c->n_keys = (uint8_t)(keys->n > MAX_KEYS ? MAX_KEYS : keys->n);
  memcpy(c->keys, keys->p, c->n_keys);
}

static void hello_attach(struct client *c, struct reader payload) {
  struct bytes keys;
  if (read_u8(&payload, &c->wants) || read_bytes(&payload, &keys) || keys.n > MAX_KEYS || left(&payload) > 0) {
    client_drop(c);
    return;
  }
  set_keys(c, &keys);
  c->state = C_ATTACH;
  uint8_t frame[FRAME_HEAD];
  put_head(frame, F_ATTACHED, 0, 0);
  send_to(c, 0, frame, sizeof frame);
  M.attached++;
}

/* The connection is not a client's any more. */
static void hello_names(struct client *c, struct reader payload) {
  if (names_serve(&M.run, c->fd, payload) < 0) client_drop(c);
  else c->state = C_FREE;
}

/* Reads one frame, and not a byte more: after an attach's hello the stream is raw. */
static void read_frame(struct client *c) {
  for (;;) {
    size_t need = FRAME_HEAD;
    if (c->have >= FRAME_HEAD) {
      uint32_t length = get_u32(c->frame);
      if (length < 5 || length > sizeof c->frame - 4) {
        client_drop(c);
        return;
      }
      need = length + 4;
    }
    if (c->have < need) {
      ssize_t n = recv(c->fd, c->frame + c->have, need - c->have, MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (n <= 0) {
        client_drop(c);
        return;
      }
      c->have = (uint8_t)(c->have + n);
      continue;
    }
    c->have = 0;
    struct reader payload = {c->frame + FRAME_HEAD, c->frame + need};
    uint8_t type = c->frame[4];
    if (c->state == C_CONTROL) control(type, payload, get_u32(c->frame + 5), c);
    else if (type == F_HELLO_CONTROL && M.launched) hello_control(c);
    else if (type == F_HELLO_ATTACH) hello_attach(c, payload);
    else if (type == F_HELLO_NAMES && M.launched && !M.init_ended) hello_names(c, payload);
    else client_drop(c);
    return;
  }
}

/* Input that comes after the end. */
static void discard_input(struct client *c) {
  ssize_t n = recv(c->fd, chunk, sizeof chunk, MSG_DONTWAIT);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) client_drop(c);
}

void client_readable(struct client *c) {
  if (c->state == C_LINGER) discard_input(c);
  else if (c->state == C_NEW || c->state == C_CONTROL) read_frame(c);
  else if (is_open(c)) read_input(c);
}

/* Opens a pipe or terminal anew, for a description of our own. */
static int reopen(int fd, int flags) {
  char path[40] = "/proc/self/fd/";
  struct stat st;
  if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) return -1;
  *put_decimal(path + 14, (uint64_t)fd) = 0;
  return fd_high(open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

static int take_direct(struct client *c, int which, int flags) {
  int fd = DIRECT_FD + 1 + which, own = reopen(fd, flags);
  c->reopened[which] = own >= 0;
  return own >= 0 ? own : fd_high(fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD));
}

void client_add_direct(uint8_t flags, const struct bytes *keys) {
  struct client *c = free_client();
  *c = (struct client){.state = C_DIRECT, .fd = fd_high(fcntl(DIRECT_FD, F_DUPFD_CLOEXEC, HIGH_FD)), .in = -1, .out = {-1, -1}};
  if (!peer_is_trusted(c->fd, &c->peer)) c->peer = 0;
  set_keys(c, keys);
  if (flags & L_DIRECT_STDIN && (c->in = take_direct(c, 0, O_RDONLY)) >= 0) {
    c->wants |= WANT_STDIN;
    c->is_tty = isatty(c->in);
  }
  if (flags & L_DIRECT_STDOUT && (c->out[OUT] = take_direct(c, 1, O_WRONLY)) >= 0) c->wants |= WANT_STDOUT;
  if (flags & L_DIRECT_STDERR && (c->out[ERR] = take_direct(c, 2, O_WRONLY)) >= 0) c->wants |= WANT_STDERR;
  for (int i = 0; i < 4; i++) close(DIRECT_FD + i);
}
