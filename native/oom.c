/* Tells of the OOM killer while the container runs, and keeps what its files said: under systemd the cgroup may be gone before init's end is noticed. */
#include "monitor.h"

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

int oom_watch(void) {
  const char *path = M.exit_reports;
  for (uint32_t i = 0; i < M.n_exit_reports; i++, path += strlen(path) + 1) {
    const char *name = strrchr(path, '/');
    if (!name) continue;
    O.v1 = strcmp(name, "/memory.oom_control") == 0;
    if (!O.v1 && strcmp(name, "/memory.events") != 0) continue;
    O.path = path;
    return fd_high(O.v1 ? watch_v1(path) : watch_v2(path));
  }
  return -1;
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
