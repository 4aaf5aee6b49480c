/* Feeds arbitrary bytes to every decoder that faces a socket. scripts/fuzz.mjs builds it with libFuzzer, or (FUZZ_MAIN) with the simple
 * mutator below, for compilers without it.  Usage of the latter: fuzz SECONDS SEED SEED-FILE... */
#include "monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

/* Looks at every byte that a decoder says is there, so that a sanitizer sees what is not. */
static void touch(const void *p, size_t n) {
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
  sink += sum;
}
static void touch_strs(const struct strs *list) {
  const uint8_t *at = list->p;
  for (uint32_t i = 0; i < list->count; i++) {
    const char *s = strs_next(&at);
    touch(s, strlen(s) + 1);
  }
}

static void touch_step(const struct step *step) {
  const union op *op = &step->op;
  switch (step->code) {
    case OP_EXEC:
      touch_strs(&op->exec.paths);
      touch_strs(&op->exec.argv);
      touch_strs(&op->exec.envp);
      break;
    case OP_FSCONFIG_DIRS:
      touch_strs(&op->fsconfig_dirs.paths);
      break;
    case OP_EXEC_GATE:
      touch_strs(&op->exec_gate.paths);
      break;
    case OP_HOOK:
      touch(op->hook.path.p, op->hook.path.n + 1);
      touch_strs(&op->hook.argv);
      touch_strs(&op->hook.envp);
      touch(op->hook.head.p, op->hook.head.n);
      touch(op->hook.tail.p, op->hook.tail.n);
      break;
    case OP_SETGROUPS:
      touch(op->setgroups.gids.p, 4 * (size_t)op->setgroups.gids.count);
      break;
    case OP_SECCOMP:
      touch(op->seccomp.filter.p, op->seccomp.filter.n);
      break;
    case OP_NETLINK:
      touch(op->netlink.messages.p, op->netlink.messages.n);
      break;
    case OP_NETLINK_DUMP:
      touch(op->netlink_dump.message.p, op->netlink_dump.message.n);
      break;
    case OP_NETLINK_WATCH:
      touch(op->netlink_watch.setup.p, op->netlink_watch.setup.n);
      break;
    case OP_DIAL:
      touch(op->dial.address.p, op->dial.address.n);
      touch(op->dial.request.p, op->dial.request.n);
      break;
    case OP_RMDIR_LATE:
      touch_strs(&op->rmdir_late.paths);
      break;
    case OP_BESIDE:
      touch_strs(&op->beside.argv);
      break;
    case OP_DIAL_THROUGH:
      touch(op->dial_through.address.p, op->dial_through.address.n);
      touch(op->dial_through.path.p, strlen(op->dial_through.path.p) + 1);
      break;
    case OP_DATAGRAMS:
      touch(op->datagrams.messages.p, op->datagrams.messages.n);
      break;
    case OP_WRITE:
      touch(op->write.path.p, strlen(op->write.path.p) + 1);
      touch(op->write.data.p, op->write.data.n);
      break;
    case OP_MOUNT:
      touch(op->mount.source.p, op->mount.source.n + 1);
      touch(op->mount.path.p, op->mount.path.n + 1);
      touch(op->mount.fstype.p, op->mount.fstype.n + 1);
      touch(op->mount.data.p, op->mount.data.n + 1);
      break;
    default:
      break;
  }
}

static void decode_plan(struct reader plan) {
  struct plan_facts facts;
  bool sound = plan_check(plan, &facts) == 0;
  uint32_t count, seen = 0;
  if (read_u32(&plan, &count)) return;
  struct step step;
  while (seen < count && plan_next(&plan, &step) == 0) {
    touch_step(&step);
    seen++;
  }
  /* What the first pass has accepted, the second reads without fail. */
  if (sound && (seen != count || facts.steps != count || left(&plan) != 0)) abort();
}

static void decode_launch(struct reader r) {
  struct launch l;
  if (read_launch(r, &l)) return;
  touch(l.socket_path.p, l.socket_path.n + 1);
  touch(l.exit_path.p, l.exit_path.n + 1);
  touch(l.pid_path.p, l.pid_path.n + 1);
  touch(l.token.p, l.token.n + 1);
  touch(l.log_path.p, l.log_path.n + 1);
  touch(l.log_attrs.p, l.log_attrs.n + 1);
  touch(l.detach_keys.p, l.detach_keys.n);
  touch_strs(&l.exit_reports);
  decode_plan(l.plan);
}

/* A log line is made of whatever a container prints. */
static void escape_as(const uint8_t *data, size_t size, bool exact) {
  char *out = malloc(6 * size + 1);
  if (!out) abort();
  char *end = json_escape(out, data, size, exact);
  if ((size_t)(end - out) > 6 * size) abort();
  for (char *p = out; p < end; p++)
    if ((uint8_t)*p < 0x20 || *p == '<') abort();
  free(out);
}

static void escape(const uint8_t *data, size_t size) {
  escape_as(data, size, false);
  escape_as(data, size, true);
}

/* A name server's sockets are open to the container, its frames come from the engine: both send these bytes, and what goes on must be frames. */
static void serve_names(const uint8_t *data, size_t size) {
  enum { ADDRESS = 0x7f00000b, PORT = 53, MOST = 32 << 10 };
  static uint8_t got[256 << 10];
  int udp[2], tcp[2], engine[2];
  uint8_t hello[8], credit[FRAME_HEAD + 4];
  const int kind = SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (socketpair(AF_UNIX, SOCK_DGRAM | kind, 0, udp) < 0 || socketpair(AF_UNIX, SOCK_STREAM | kind, 0, tcp) < 0 ||
      socketpair(AF_UNIX, SOCK_STREAM | kind, 0, engine) < 0 || names_keep(ADDRESS, udp[0], tcp[0]) < 0)
    abort();
  put_u32(hello, ADDRESS);
  put_u32(hello + 4, PORT);
  if (names_serve(NULL, engine[0], (struct reader){hello, hello + sizeof hello}) < 0) abort();
  put_head(credit, F_CREDIT, 0, 4);
  put_u32(credit + FRAME_HEAD, 3);
  if (write(engine[1], credit, sizeof credit) < 0) abort();
  size_t part = size > MOST ? MOST : size;
  for (int i = 0; i < 5; i++) sink += (uint64_t)send(udp[1], data, part >> i, MSG_DONTWAIT);
  names_event(0, POLLIN);
  names_event(1, POLLIN);
  ssize_t n = recv(engine[1], got, sizeof got, MSG_DONTWAIT);
  for (ssize_t at = 0; at < n;) {
    if (n - at < FRAME_HEAD) abort();
    uint32_t length = get_u32(got + at);
    if (length < 5 || length > n - at - 4 || got[at + 4] != F_QUERY) abort();
    at += length + 4;
  }
  sink += (uint64_t)send(engine[1], data, part, MSG_DONTWAIT | MSG_NOSIGNAL);
  short events;
  for (int i = 0; i < 8 && names_fd(0, &events) >= 0; i++) names_event(0, POLLIN);
  names_event(2, POLLIN);
  names_close();
  close(udp[1]);
  close(tcp[1]);
  close(engine[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* A copy of exactly this size: reading a byte beyond it is an error that ASan and valgrind see. */
  uint8_t *copy = malloc(size ? size : 1);
  if (!copy) abort();
  if (size > 0) memcpy(copy, data, size);
  struct reader r = {copy, copy + size};
  decode_plan(r);
  decode_launch(r);
  escape(copy, size);
  serve_names(copy, size);
  free(copy);
  return 0;
}

#ifdef FUZZ_MAIN
enum { LARGEST = 1 << 16 };

static uint64_t state;
static uint32_t random32(void) { /* xorshift64* */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)((state * 2685821657736338717ull) >> 32);
}

static size_t mutate(uint8_t *data, size_t n) {
  static const uint32_t interesting[] = {0, 1, 2, 63, 64, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, MAX_STRING, MAX_STRING + 1, MAX_COUNT + 1};
  for (uint32_t times = 1 + random32() % 6; times > 0; times--) {
    size_t at = n ? random32() % n : 0;
    switch (random32() % 5) {
      case 0:
        if (n > 0) data[at] ^= (uint8_t)(1u << random32() % 8);
        break;
      case 1:
        if (n > 0) data[at] = (uint8_t)random32();
        break;
      case 2:
        if (n >= 4 && at + 4 <= n) put_u32(data + at, interesting[random32() % (sizeof interesting / sizeof *interesting)]);
        break;
      case 3: /* cut */
        n = at;
        break;
      default: /* double a piece */
        if (n > 0 && n < LARGEST / 2) {
          size_t length = 1 + random32() % 64;
          if (at + length > n) length = n - at;
          memmove(data + at + length, data + at, n - at);
          n += length;
        }
        break;
    }
  }
  return n;
}

int main(int argc, char **argv) {
  static uint8_t seed[64][LARGEST], data[2 * LARGEST];
  size_t size[64];
  int seeds = 0;
  if (argc < 4) return fputs("usage: fuzz SECONDS SEED SEED-FILE...\n", stderr), 2;
  for (int i = 3; i < argc && seeds < 64; i++) {
    FILE *file = fopen(argv[i], "rb");
    if (!file) return perror(argv[i]), 2;
    size[seeds] = fread(seed[seeds], 1, LARGEST, file);
    fclose(file);
    LLVMFuzzerTestOneInput(seed[seeds], size[seeds]);
    seeds++;
  }
  state = strtoull(argv[2], NULL, 10) | 1;
  time_t end = time(NULL) + atol(argv[1]);
  unsigned long long runs = 0;
  do {
    for (int i = 0; i < 200; i++, runs++) {
      uint32_t which = random32() % (uint32_t)seeds;
      memcpy(data, seed[which], size[which]);
      LLVMFuzzerTestOneInput(data, mutate(data, size[which]));
    }
  } while (time(NULL) < end);
  printf("%llu inputs\n", runs);
  return 0;
}
#endif
