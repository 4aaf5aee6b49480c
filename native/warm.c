/* `wherry-runtime` beside a warm daemon: the daemon computes what a Node process of our own would (in 100 ms more), and we do what only we can, since the
 * container must be our caller's descendant: start the launcher that performs the plan, and pass bytes between the two. docs/stub-protocol.md. */
#include "stub.h"
#include "sys.h"
#include "wire.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
  int daemon, launcher, launcher_pidfd, signals;
  pid_t launcher_pid;
  bool began; /* the daemon has done something: we cannot begin anew */
  uint8_t buffer[64 << 10];
} W = {.launcher = -1, .launcher_pidfd = -1, .signals = -1};

/* The daemon must see what we see: the same user, namespaces and root directory. */
static bool sees_the_same(int fd) {
  static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  struct ucred peer;
  socklen_t n = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != geteuid() || peer.gid != getegid() || peer.pid <= 0) return false;
  char path[64] = "/proc/", *rest = put_decimal(path + 6, (uint64_t)peer.pid);
  struct stat ours, theirs;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char own[64] = "/proc/self/ns/";
    strcat(own, kinds[i]);
    strcpy(rest, "/ns/");
    strcat(rest, kinds[i]);
    if (stat(own, &ours) < 0) continue; /* a kernel without this kind */
    if (stat(path, &theirs) < 0 || ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev) return false;
  }
  strcpy(rest, "/root/");
  return stat("/", &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

_Noreturn static void lost(void) {
  static const char text[] = "wherry-runtime: the connection to the daemon was lost\n";
  if (write_all(2, text, sizeof text - 1)) _exit(1);
  exit(1);
}

/* What we have been told to pass on, from the frame that is being read. */
static void copy_out(int to, uint32_t length) {
  while (length > 0) {
    size_t part = length < sizeof W.buffer ? length : sizeof W.buffer;
    if (read_full(W.daemon, W.buffer, part) != (ssize_t)part) lost();
    /* A reader that is gone: the daemon goes on, the bytes are lost. A launcher that is gone tells so by its end. */
    if (to >= 0 && write_all(to, W.buffer, part)) to = -1;
    length -= (uint32_t)part;
  }
}

static void start_launcher(bool wait) {
  int pair[2];
  if (W.launcher_pid > 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) lost();
  /* High, so that no descriptor stands where the launcher wants its socket. */
  pair[0] = fd_high(pair[0]);
  pair[1] = fd_high(pair[1]);
  pid_t pid = fork();
  if (pid < 0) lost();
  if (pid == 0) {
    char *argv[] = {(char *)"wherry-helper", (char *)"launch", (char *)(wait ? "wait" : "exit"), (char *)"0", NULL}, *none[] = {NULL};
    setsid();
    signal(SIGPIPE, SIG_DFL);
    if (dup2(pair[1], 3) < 0) _exit(125);
    sys_close_range(4, ~0u, 0);
    execve("/proc/self/exe", argv, none);
    _exit(125);
  }
  close(pair[1]);
  W.launcher = pair[0];
  W.launcher_pid = pid;
  W.launcher_pidfd = sys_pidfd_open(pid);
  if (W.launcher_pidfd < 0) lost();
  if (!wait) return;
  /* From here on our signals are the program's. */
  static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT};
  sigset_t mask;
  sigemptyset(&mask);
  for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) sigaddset(&mask, forwarded[i]);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  W.signals = signalfd(-1, &mask, SFD_CLOEXEC);
}

static void drop_launcher(void) {
  if (W.launcher >= 0) close(W.launcher);
  W.launcher = -1;
}

/* false: there is nothing more to read now, or ever. */
static bool pass_from_launcher(void) {
  if (W.launcher < 0) return false;
  ssize_t n = recv(W.launcher, W.buffer, 16 << 10, MSG_DONTWAIT);
  if (n <= 0) return false;
  send_frame(W.daemon, FROM_LAUNCHER, W.buffer, (uint32_t)n);
  return true;
}

static void launcher_ended(void) {
  while (pass_from_launcher()) {
  }
  while (waitpid(W.launcher_pid, NULL, 0) < 0 && errno == EINTR) {
  }
  close(W.launcher_pidfd);
  W.launcher_pidfd = -1;
  drop_launcher();
  send_frame(W.daemon, LAUNCHER_END, NULL, 0);
}

/* false: the daemon wants us to do it ourselves. */
static bool take_frame(void) {
  uint8_t head[STUB_HEAD], payload = 0;
  if (read_full(W.daemon, head, sizeof head) != sizeof head) lost();
  uint32_t length = get_u32(head + 1);
  if (head[0] == STDOUT || head[0] == STDERR) copy_out(head[0] == STDOUT ? 1 : 2, length);
  else if (head[0] == TO_LAUNCHER) copy_out(W.launcher, length);
  else if (length > 1 || (length == 1 && read_full(W.daemon, &payload, 1) != 1)) lost();
  switch (head[0]) {
    case EXIT:
      exit(payload);
    case EXEC_NODE:
      if (W.began) lost();
      return false;
    case LAUNCHER:
      start_launcher(payload != 0);
      break;
    case DROP_LAUNCHER:
      drop_launcher();
      break;
    default:
      break;
  }
  W.began = true;
  return true;
}

void run_warm(char **argv) {
  char directory[PATH_MAX];
  for (int fd = 0; fd < 3; fd++)
    if (fcntl(fd, F_GETFD) < 0) return; /* Node sees to descriptors that are closed */
  if (socket_directory(environment_host(), directory)) return;
  W.daemon = fd_high(connect_to(directory, "oci/runtime.sock"));
  if (W.daemon < 0) return;
  if (!sees_the_same(W.daemon)) {
    close(W.daemon);
    return;
  }
  void (*before)(int) = signal(SIGPIPE, SIG_IGN);
  send_hello(W.daemon, "", argv);
  for (;;) {
    struct pollfd fds[4] = {{W.daemon, POLLIN, 0}, {W.launcher, POLLIN, 0}, {W.launcher_pidfd, POLLIN, 0}, {W.signals, POLLIN, 0}};
    if (poll(fds, 4, -1) < 0) {
      if (errno == EINTR) continue;
      lost();
    }
    if (fds[3].revents) {
      struct signalfd_siginfo info;
      uint8_t payload[4];
      if (read(W.signals, &info, sizeof info) == sizeof info) {
        put_u32(payload, info.ssi_signo);
        send_frame(W.daemon, SIGNAL, payload, sizeof payload);
      }
    }
    if (fds[1].revents && !pass_from_launcher() && !fds[2].revents) drop_launcher();
    if (fds[2].revents) launcher_ended();
    if (fds[0].revents && !take_frame()) break;
  }
  close(W.daemon);
  signal(SIGPIPE, before);
}
