/* The helper: a small process that forks the others, so that the engine (large, with threads) never forks. One thread, one epoll loop.
 * It may crash or be restarted at any time without harm to a container. */
#include "monitor.h"
#include "roles.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
  ENGINE_FD = 3,
  FIRST_FREE_FD = 10, /* 4..9 are kept, so that a fork can lay its own descriptors there */
  PROTOCOL = 1,
  OUT_SIZE = 512 << 10,
  OUT_PAUSE = 256 << 10, /* queued for the engine: relays wait */
  MAX_STUBS = 256,
  TOKEN = 32,
  SPARE_AFTER_MS = 30, /* nothing to do for so long: time to prepare the next launch */
  SPARE_LIFE_MS = 30000, /* a new network namespace has the host's settings of its birth: it is not kept for long */
};

enum source { S_ENGINE = 1, S_STUBS, S_STUB, S_RELAY };

struct stub { /* a `wherry` process that has given us its descriptors */
  int connection; /* -1 = free */
  int fds[3];
  char token[TOKEN];
};
struct relay { /* a monitor or worker */
  int fd;
  uint32_t id;
};

static struct {
  int epoll, stub_listener;
  uint8_t *in;
  size_t in_used;
  uint8_t *out;
  size_t out_used;
  bool paused;
  struct stub stubs[MAX_STUBS];
  struct relay *relays;
  size_t n_relays, relay_capacity;
  struct {
    bool wanted, makes_net; /* there has been a launch; it made a network namespace */
    bool waits;
    size_t relay;
    int64_t until_ms;
  } spare; /* a monitor in waiting */
} H;

_Noreturn static void die(const char *why) {
  const char *reason = strerror(errno);
  if (write_all(2, "wherry-helper: ", 15) || write_all(2, why, strlen(why)) || write_all(2, ": ", 2) || write_all(2, reason, strlen(reason)) || write_all(2, "\n", 1)) _exit(2);
  _exit(1);
}

static void watch(int fd, enum source source, uint32_t index, uint32_t events, int how) {
  struct epoll_event event = {.events = events, .data.u64 = (uint64_t)source << 32 | index};
  if (epoll_ctl(H.epoll, how, fd, &event) < 0) die("epoll_ctl");
}

/* --- to the engine */

static void set_paused(bool paused) {
  if (H.paused == paused) return;
  H.paused = paused;
  for (size_t i = 0; i < H.n_relays; i++)
    if (H.relays[i].fd >= 0) watch(H.relays[i].fd, S_RELAY, (uint32_t)i, paused ? 0 : EPOLLIN, EPOLL_CTL_MOD);
}

static void engine_flush(void) {
  size_t sent = 0;
  while (sent < H.out_used) {
    ssize_t n = send(ENGINE_FD, H.out + sent, H.out_used - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) _exit(0); /* the engine is gone */
    sent += (size_t)n;
  }
  memmove(H.out, H.out + sent, H.out_used - sent);
  H.out_used -= sent;
  if (sent > 0 || H.out_used > 0) watch(ENGINE_FD, S_ENGINE, 0, H.out_used > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
  set_paused(H.out_used > OUT_PAUSE);
}

static void engine_send(const void *data, size_t n) {
  if (H.out_used == 0) {
    ssize_t done = send(ENGINE_FD, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done == (ssize_t)n) return;
    if (done < 0 && errno != EAGAIN && errno != EINTR) _exit(0);
    if (done > 0) {
      data = (const uint8_t *)data + done;
      n -= (size_t)done;
    }
  }
  if (H.out_used + n > OUT_SIZE) die("output queue");
  memcpy(H.out + H.out_used, data, n);
  H.out_used += n;
  engine_flush();
}

static void engine_frame(uint8_t type, uint32_t id, const uint32_t *words, int count) {
  uint8_t frame[FRAME_HEAD + 16];
  put_head(frame, type, id, 4 * (size_t)count);
  for (int i = 0; i < count; i++) put_u32(frame + FRAME_HEAD + 4 * i, words[i]);
  engine_send(frame, FRAME_HEAD + 4 * (size_t)count);
}

static void engine_failed(uint32_t id, int error) { engine_frame(F_FAILED, id, (uint32_t[]){UINT32_MAX, (uint32_t)error}, 2); }

/* --- forked processes */

static size_t free_relay(void) {
  for (size_t i = 0; i < H.n_relays; i++)
    if (H.relays[i].fd < 0) return i;
  if (H.n_relays == H.relay_capacity) {
    size_t capacity = H.relay_capacity ? 2 * H.relay_capacity : 64;
    struct relay *bigger = realloc(H.relays, capacity * sizeof *bigger);
    if (!bigger) die("memory");
    H.relays = bigger;
    H.relay_capacity = capacity;
  }
  H.relays[H.n_relays] = (struct relay){-1, 0};
  return H.n_relays++;
}

/* The relay of a process that is there. */
static size_t relay_of(uint32_t id) {
  size_t i = 0;
  while (H.relays[i].fd < 0 || H.relays[i].id != id) i++;
  return i;
}

/* Forks a process whose descriptors are 0–2, RELAY_FD and (stub given) DIRECT_FD..; 0 in the child, else its pid or -1. */
static pid_t spawn(uint32_t id, const struct stub *stub) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -1;
  pid_t pid = fork();
  if (pid == 0) {
    dup3(pair[1], RELAY_FD, O_CLOEXEC);
    if (stub) {
      dup3(stub->connection, DIRECT_FD, O_CLOEXEC);
      for (int i = 0; i < 3; i++) dup3(stub->fds[i], DIRECT_FD + 1 + i, O_CLOEXEC);
    }
    sys_close_range(stub ? DIRECT_FD + 4 : DIRECT_FD, ~0u, 0);
    return 0;
  }
  int saved = errno;
  close(pair[1]);
  if (pid < 0) {
    close(pair[0]);
    errno = saved;
    return -1;
  }
  size_t index = free_relay();
  H.relays[index] = (struct relay){pair[0], id};
  watch(pair[0], S_RELAY, (uint32_t)index, H.paused ? 0 : EPOLLIN, EPOLL_CTL_ADD);
  return pid;
}

static void drop_spare(void) {
  if (!H.spare.waits) return;
  H.spare.waits = false;
  close(H.relays[H.spare.relay].fd); /* it ends */
  H.relays[H.spare.relay].fd = -1;
}

static void make_spare(void) {
  H.spare.wanted = false;
  pid_t pid = spawn(0, NULL);
  if (pid == 0) monitor_wait(H.spare.makes_net, H.in, MAX_FRAME + 4);
  if (pid < 0) return; /* the next launch forks for itself, and says why that cannot be */
  H.spare.waits = true;
  H.spare.relay = relay_of(0);
  H.spare.until_ms = now_ms() + SPARE_LIFE_MS;
}

/* Gives a launch to the monitor in waiting; false when there is none that could take it. */
static bool hand_over(uint32_t id, const struct stub *stub, const uint8_t *frame, size_t n) {
  if (!H.spare.waits || n > MAX_HANDED) return false;
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(4 * sizeof(int))];
  } control;
  struct iovec part = {(void *)frame, n};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (stub) {
    int fds[4] = {stub->connection, stub->fds[0], stub->fds[1], stub->fds[2]};
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(&control.head), fds, sizeof fds);
  }
  struct relay *relay = &H.relays[H.spare.relay];
  if (sendmsg(relay->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    drop_spare();
    return false;
  }
  relay->id = id;
  H.spare.waits = false;
  return true;
}

static void relay_readable(size_t index) {
  static uint8_t frame[FRAME_HEAD + MAX_RELAY];
  struct relay *relay = &H.relays[index];
  if (relay->fd < 0 || H.paused) return; /* paused by an event before this one: it stays in the socket */
  ssize_t n = recv(relay->fd, frame, sizeof frame, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET)) return;
  if (n > 0) {
    /* One message is one frame, and a process speaks for itself only. */
    if (n >= FRAME_HEAD && get_u32(frame) == (uint32_t)n - 4 && get_u32(frame + 5) == relay->id) engine_send(frame, (size_t)n);
    return;
  }
  if (H.spare.waits && index == H.spare.relay) {
    drop_spare();
    return;
  }
  close(relay->fd);
  relay->fd = -1;
  engine_frame(F_GONE, relay->id, NULL, 0);
}

static void pass_control(uint32_t id, struct reader r) {
  uint8_t type, frame[64];
  uint32_t request;
  if (read_u8(&r, &type) || read_u32(&r, &request) || left(&r) > sizeof frame - FRAME_HEAD) return;
  size_t n = left(&r);
  put_head(frame, type, request, n);
  memcpy(frame + FRAME_HEAD, r.at, n);
  int error = ESRCH;
  for (size_t i = 0; i < H.n_relays; i++) {
    if (H.relays[i].fd < 0 || H.relays[i].id != id) continue;
    if (send(H.relays[i].fd, frame, FRAME_HEAD + n, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return;
    error = errno == EPIPE || errno == ECONNRESET ? ESRCH : errno;
  }
  engine_frame(F_REPLY, id, (uint32_t[]){request, (uint32_t)error}, 2);
}

/* --- stubs */

static void stub_drop(struct stub *stub) {
  if (stub->connection < 0) return;
  close(stub->connection);
  for (int i = 0; i < 3; i++)
    if (stub->fds[i] >= 0) close(stub->fds[i]);
  *stub = (struct stub){.connection = -1, .fds = {-1, -1, -1}};
}

static void stub_readable(struct stub *stub) {
  uint8_t token[TOKEN + 1];
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(3 * sizeof(int))];
  } control;
  struct iovec part = {token, sizeof token};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(stub->connection, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  int fds[3] = {-1, -1, -1}, count = 0;
  if (n >= 0)
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), (size_t)(count > 3 ? 3 : count) * sizeof(int));
      }
  if (n == TOKEN && count == 3 && stub->fds[0] < 0) {
    memcpy(stub->token, token, TOKEN);
    memcpy(stub->fds, fds, sizeof fds);
    return;
  }
  for (int i = 0; i < 3; i++)
    if (fds[i] >= 0) close(fds[i]);
  stub_drop(stub); /* its end, or nothing that a stub says */
}

static void stubs_accept(void) {
  for (;;) {
    int fd = accept4(H.stub_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    size_t i = 0;
    while (i < MAX_STUBS && H.stubs[i].connection >= 0) i++;
    if (i == MAX_STUBS || !peer_is_trusted(fd, NULL)) {
      close(fd);
      continue;
    }
    H.stubs[i].connection = fd;
    watch(fd, S_STUB, (uint32_t)i, EPOLLIN, EPOLL_CTL_ADD);
    stub_readable(&H.stubs[i]);
  }
}

static struct stub *find_stub(const char *token) {
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < MAX_STUBS; i++)
      if (H.stubs[i].connection >= 0 && H.stubs[i].fds[0] >= 0 && memcmp(H.stubs[i].token, token, TOKEN) == 0) return &H.stubs[i];
    /* It may have sent them without our having looked. */
    stubs_accept();
    for (size_t i = 0; i < MAX_STUBS; i++)
      if (H.stubs[i].connection >= 0 && H.stubs[i].fds[0] < 0) stub_readable(&H.stubs[i]);
  }
  return NULL;
}

/* --- from the engine */

static void start_launch(uint32_t id, const uint8_t *frame, struct reader payload) {
  struct launch launch;
  struct stub *stub = NULL;
  if (read_launch(payload, &launch)) {
    engine_failed(id, EBADMSG);
    return;
  }
  if (launch.flags & L_DIRECT && !(stub = find_stub(launch.token.p))) {
    engine_failed(id, ENOKEY);
    return;
  }
  H.spare.wanted = true;
  H.spare.makes_net = plan_makes_net(launch.plan);
  if (hand_over(id, stub, frame, (size_t)(payload.end - frame))) return;
  pid_t pid = spawn(id, stub);
  if (pid < 0) engine_failed(id, errno);
  if (pid == 0) monitor_main(id, &launch, H.in, MAX_FRAME + 4, NULL);
}

static void start_call(uint32_t id, struct reader payload) {
  pid_t pid = spawn(id, NULL);
  if (pid < 0) engine_failed(id, errno);
  if (pid == 0) call_main(id, payload);
}

static void start_tree(uint32_t id, struct reader payload) {
  struct str root, socket_path;
  if (read_str(&payload, &root) || read_str(&payload, &socket_path)) {
    engine_failed(id, EBADMSG);
    return;
  }
  pid_t pid = spawn(id, NULL);
  if (pid < 0) engine_failed(id, errno);
  if (pid == 0) tree_main(id, root.p, socket_path.p, payload);
}

static void take_frame(const uint8_t *frame, struct reader payload) {
  uint32_t id = get_u32(frame + 5);
  switch (frame[4]) {
    case F_CALL:
      start_call(id, payload);
      break;
    case F_LAUNCH:
      start_launch(id, frame, payload);
      break;
    case F_TREE:
      start_tree(id, payload);
      break;
    case F_CONTROL:
      pass_control(id, payload);
      break;
    default:
      engine_failed(id, ENOSYS);
      break;
  }
}

static void engine_readable(void) {
  ssize_t n = recv(ENGINE_FD, H.in + H.in_used, MAX_FRAME + 4 - H.in_used, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) _exit(0); /* the engine is gone; monitors go on */
  H.in_used += (size_t)n;
  size_t at = 0, largest = 0;
  while (H.in_used - at >= FRAME_HEAD) {
    uint32_t length = get_u32(H.in + at);
    if (length < 5 || length > MAX_FRAME) errno = EBADMSG, die("frame");
    if (H.in_used - at < length + 4) break;
    uint8_t *frame = H.in + at;
    take_frame(frame, (struct reader){frame + FRAME_HEAD, frame + 4 + length});
    at += length + 4;
    if (length > largest) largest = length;
  }
  memmove(H.in, H.in + at, H.in_used - at);
  H.in_used -= at;
  if (H.in_used == 0 && largest > 256 << 10) madvise(H.in, MAX_FRAME + 4, MADV_DONTNEED);
}

/* --- between launches */

/* How long to wait for something to do before `idle`; -1 = for ever. */
static int idle_ms(void) {
  if (H.spare.waits) {
    int64_t left_ms = H.spare.until_ms - now_ms();
    return left_ms > 0 ? (int)left_ms : 0;
  }
  return H.spare.wanted ? SPARE_AFTER_MS : -1;
}

/* Whoever starts a container often starts another: what is the same for each is done now. */
static void idle(void) {
  if (!H.spare.waits) make_spare();
  else if (now_ms() >= H.spare.until_ms) drop_spare();
}

/* --- start */

/* Runs from a sealed copy in memory: a container can never reach (or overwrite) the file on disk by way of /proc/PID/exe (CVE-2019-5736). */
void seal(char **argv) {
#ifdef WHERRY_UNSEALED /* a build for valgrind, which cannot follow execveat */
  (void)argv;
#else
  char self[64];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n > 0 && (self[n] = 0, strncmp(self, "/memfd:", 7) == 0)) return;
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  int to = (int)syscall(SYS_memfd_create, "wherry-helper", 3u | 0x10u /* CLOEXEC, ALLOW_SEALING, EXEC (6.3) */);
  if (to < 0) to = (int)syscall(SYS_memfd_create, "wherry-helper", 3u);
  struct stat st;
  if (from < 0 || to < 0 || fstat(from, &st) < 0) die("memfd");
  for (off_t done = 0; done < st.st_size;) {
    ssize_t moved = sendfile(to, from, &done, (size_t)(st.st_size - done));
    if (moved <= 0) die("sendfile");
  }
  if (fchmod(to, 0500) < 0 || fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) die("seal");
  close(from);
  /* No environment: monitors would carry the engine's secrets for years. */
  char *clean[] = {NULL};
  syscall(SYS_execveat, to, "", argv, clean, AT_EMPTY_PATH);
  die("execveat");
#endif
}

int helper_main(int argc, char **argv) {
  if (argc < 3) {
    errno = EINVAL;
    die("usage: wherry-helper helper FD_SOCKET");
  }
  seal(argv);
  for (int fd = 4; fd < FIRST_FREE_FD; fd++)
    if (dup3(0, fd, O_CLOEXEC) < 0) die("dup");
  sys_close_range(FIRST_FREE_FD, ~0u, 0);
  fcntl(ENGINE_FD, F_SETFD, FD_CLOEXEC);
  signals_default();
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  static const int ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGCHLD /* forks are reaped by the kernel */};
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) sigaction(ignored[i], &ignore, NULL);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  umask(0);
  for (size_t i = 0; i < MAX_STUBS; i++) H.stubs[i] = (struct stub){.connection = -1, .fds = {-1, -1, -1}};
  H.in = mmap(NULL, MAX_FRAME + 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  H.out = mmap(NULL, OUT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  H.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (H.in == MAP_FAILED || H.out == MAP_FAILED || H.epoll < 0) die("start");
  H.stub_listener = listen_at(argv[2]);
  if (H.stub_listener < 0) die(argv[2]);
  watch(ENGINE_FD, S_ENGINE, 0, EPOLLIN, EPOLL_CTL_ADD);
  watch(H.stub_listener, S_STUBS, 0, EPOLLIN, EPOLL_CTL_ADD);
  set_title("wherry-helper", NULL);
  engine_frame(F_READY, 0, (uint32_t[]){(uint32_t)getpid(), PROTOCOL}, 2);
  for (;;) {
    struct epoll_event events[32];
    int n = epoll_wait(H.epoll, events, 32, idle_ms());
    if (n < 0 && errno != EINTR) die("epoll_wait");
    if (n == 0) idle();
    for (int i = 0; i < n; i++) {
      uint32_t index = (uint32_t)events[i].data.u64;
      switch (events[i].data.u64 >> 32) {
        case S_ENGINE:
          if (events[i].events & EPOLLOUT) engine_flush();
          if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) engine_readable();
          break;
        case S_STUBS:
          stubs_accept();
          break;
        case S_STUB:
          if (H.stubs[index].connection >= 0) stub_readable(&H.stubs[index]);
          break;
        default:
          relay_readable(index);
          break;
      }
    }
  }
}
