/* Tells of the OOM killer, and of processes that wait for memory, while the container runs, and keeps what its files said: under systemd the cgroup may be gone before init's end is noticed. */
#include "monitor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

static struct {
  const char *path; /* in M.exit_reports; NULL = nothing is watched */
  bool v1;
  uint64_t kills;
  char text[512]; /* as last read */
  size_t length;
} O;

/* cgroup v1: an event descriptor is signalled when memory runs out, and when the cgroup is removed. */
static int watch_v1(const char *path) {
  char control[1100], line[32], *p = line;
  const char *slash = strrchr(path, '/');
  if ((size_t)(slash - path) + sizeof "/cgroup.event_control" > sizeof control) return -1;
  memcpy(control, path, (size_t)(slash - path));
  strcpy(control + (slash - path), "/cgroup.event_control");
  int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), file = open(path, O_RDONLY | O_CLOEXEC), to = open(control, O_WRONLY | O_CLOEXEC);
  if (event >= 0 && file >= 0 && to >= 0) {
    p = put_decimal(p, (uint64_t)event);
    *p++ = ' ';
    p = put_decimal(p, (uint64_t)file);
    if (write(to, line, (size_t)(p - line)) < 0) close(event), event = -1;
  } else if (event >= 0) {
    close(event), event = -1;
  }
  if (file >= 0) close(file);
  if (to >= 0) close(to);
  return event;
}

static int watch_v2(const char *path) {
  int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) < 0) close(fd), fd = -1;
  return fd;
}

/* The exit report whose file has this name; NULL when there is none. */
static const char *report_of(const char *name) {
  const char *path = M.exit_reports;
  for (uint32_t i = 0; i < M.n_exit_reports; i++, path += strlen(path) + 1) {
    const char *slash = strrchr(path, '/');
    if (slash && strcmp(slash + 1, name) == 0) return path;
  }
  return NULL;
}

int oom_watch(void) {
  O.path = report_of("memory.oom_control");
  O.v1 = O.path != NULL;
  if (!O.v1) O.path = report_of("memory.events");
  return O.path ? fd_high(O.v1 ? watch_v1(O.path) : watch_v2(O.path)) : -1;
}

/* Number behind "oom_kill " at the beginning of a line. */
static uint64_t kills_in(const char *text) {
  const char *at = strncmp(text, "oom_kill ", 9) == 0 ? text : strstr(text, "\noom_kill ");
  if (!at) return 0;
  uint64_t n = 0;
  for (at = strchr(at, ' ') + 1; *at >= '0' && *at <= '9'; at++) n = n * 10 + (uint64_t)(*at - '0');
  return n;
}

void oom_event(int fd) {
  char ignored[512];
  while (read(fd, ignored, sizeof ignored) == (ssize_t)sizeof ignored) {
  }
  int file = open(O.path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return; /* removed */
  ssize_t n = read_full(file, (uint8_t *)O.text, sizeof O.text - 1);
  close(file);
  if (n < 0) return;
  O.text[n] = 0;
  O.length = (size_t)n;
  uint64_t kills = kills_in(O.text);
  if (kills > O.kills || O.v1) broadcast(F_OOM, NULL, 0);
  O.kills = kills;
}

const char *oom_text(const char *path, size_t *length) {
  if (path != O.path || O.length == 0) return NULL;
  *length = O.length;
  return O.text;
}

/* --- pressure stall information (cgroup v2): the kernel tells, at most once in two seconds, when some process waited for memory for 150 ms of them */

enum { PRESSURE_REST_MS = 60000 };

int pressure_watch(void) {
  static const char trigger[] = "some 150000 2000000";
  const char *path = report_of("memory.pressure");
  int fd = path ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
  /* Refused where the kernel does not count it. */
  if (fd >= 0 && write(fd, trigger, sizeof trigger) < 0) close(fd), fd = -1;
  return fd_high(fd);
}

bool pressure_event(int fd, short revents) {
  static int64_t told;
  uint8_t text[256];
  if (revents & POLLERR) return false; /* the cgroup is gone */
  if (told != 0 && now_ms() - told < PRESSURE_REST_MS) return true;
  told = now_ms();
  ssize_t n = pread(fd, text, sizeof text, 0);
  if (n > 0) broadcast(F_PRESSURE, text, (size_t)n);
  return true;
}
