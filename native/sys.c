#include "sys.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

char *title_start;
size_t title_size;

pid_t sys_clone(uint64_t flags, int cgroup_fd, int *pidfd) {
  struct clone_args_v2 args = {.flags = flags, .exit_signal = SIGCHLD};
  if (pidfd) {
    args.flags |= W_CLONE_PIDFD;
    args.pidfd = (uint64_t)(uintptr_t)pidfd;
  }
  if (cgroup_fd >= 0) {
    args.flags |= W_CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)cgroup_fd;
  }
  long pid = syscall(NR_clone3, &args, sizeof args);
  /* An engine inside a container whose seccomp profile hides clone3 sees ENOSYS. */
  if (pid < 0 && errno == ENOSYS && cgroup_fd < 0 && args.flags <= UINT32_MAX)
    pid = syscall(SYS_clone, args.flags | SIGCHLD, NULL, pidfd, NULL, NULL);
  return (pid_t)pid;
}

void signals_default(void) {
  struct sigaction plain = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &plain, NULL);
}

void signals_restore(void) {
  static const int touched[] = {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGTSTP, SIGCHLD};
  struct sigaction plain = {.sa_handler = SIG_DFL};
  for (size_t i = 0; i < sizeof touched / sizeof *touched; i++) sigaction(touched[i], &plain, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

int fd_high(int fd) {
  if (fd < 0 || fd >= HIGH_FD) return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
  int saved = errno;
  close(fd);
  errno = saved;
  return high;
}

int write_all(int fd, const void *data, size_t n) {
  const char *p = data;
  while (n > 0) {
    ssize_t done = write(fd, p, n);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return -1;
    p += done;
    n -= (size_t)done;
  }
  return 0;
}

ssize_t read_full(int fd, void *data, size_t max) {
  size_t n = 0;
  while (n < max) {
    ssize_t got = read(fd, (char *)data + n, max - n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    n += (size_t)got;
  }
  return (ssize_t)n;
}

char *put_decimal(char *p, uint64_t v) {
  char digits[20];
  int n = 0;
  do digits[n++] = (char)('0' + v % 10);
  while ((v /= 10) > 0);
  while (n > 0) *p++ = digits[--n];
  return p;
}

uint64_t process_start_time(pid_t pid) {
  char path[40] = "/proc/", text[1024];
  strcpy(put_decimal(path + 6, (uint64_t)pid), "/stat");
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read_full(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  char *p = strrchr(text, ')'); /* the name may hold spaces and parentheses */
  for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
  return p ? strtoull(p + 1, NULL, 10) : 0;
}

int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  mode_t mask = umask(0177);
  int result = bind(fd, (struct sockaddr *)&address, sizeof address);
  if (result < 0 && errno == EADDRINUSE) {
    unlink(path);
    result = bind(fd, (struct sockaddr *)&address, sizeof address);
  }
  umask(mask);
  if (result == 0) result = listen(fd, 64);
  if (result < 0) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

bool peer_is_trusted(int fd, pid_t *pid) {
  struct ucred peer;
  socklen_t n = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0) return false;
  if (pid) *pid = peer.pid;
  return peer.uid == 0 || peer.uid == geteuid();
}

void set_title(const char *name, const char *detail) {
  prctl(PR_SET_NAME, name, 0, 0, 0);
  if (!title_start || title_size < 2) return;
  memset(title_start, 0, title_size);
  size_t n = strlen(name), m = detail ? strlen(detail) : 0;
  if (n > title_size - 1) n = title_size - 1;
  memcpy(title_start, name, n);
  if (m > 0 && n + 2 < title_size) {
    title_start[n] = ' ';
    if (m > title_size - n - 2) m = title_size - n - 2;
    memcpy(title_start + n + 1, detail, m);
  }
}
