/* The child's standard streams: it makes them itself, so that within a user namespace they belong to its root, and hands the other ends over. */
#include "path.h"
#include "plan.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

enum { CONSOLE_BIND = 1, CONSOLE_LATER = 2 }; /* bits */

static int point_stdio_at(int fd0, int fd1, int fd2) {
  return dup2(fd0, 0) < 0 || dup2(fd1, 1) < 0 || dup2(fd2, 2) < 0 ? -1 : 0;
}

/* Slot 0 while there is one, else the current root (exec into a running container). */
static int open_below_root(const char *path, uint64_t flags) {
  if (fcntl(SLOT_BASE, F_GETFD) >= 0) return path_open(0, path, flags, 0);
  int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return -1;
  int fd = sys_openat2(root, path, flags | O_CLOEXEC, 0, W_RESOLVE_IN_ROOT | W_RESOLVE_NO_MAGICLINKS);
  int saved = errno;
  close(root);
  errno = saved;
  return fd;
}

/* Binds the terminal over /dev/console. */
static int bind_console(int terminal) {
  if (fcntl(SLOT_BASE, F_GETFD) < 0) return errno = EBADF, -1;
  if (path_mkfile(0, "dev/console", 0600, true)) return -1;
  struct stat st;
  int target = path_open(0, "dev/console", O_PATH | O_NOFOLLOW, 0);
  if (target < 0) return -1;
  /* CVE-2025-52565: a link of the image must not choose what the terminal covers. */
  if (fstat(target, &st) < 0 || S_ISLNK(st.st_mode)) return close(target), errno = ELOOP, -1;
  int tree = sys_open_tree(terminal, "", W_OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH);
  int result = tree < 0 ? -1 : sys_move_mount(tree, "", target, "", W_MOVE_MOUNT_F_EMPTY_PATH | W_MOVE_MOUNT_T_EMPTY_PATH);
  int saved = errno;
  if (tree >= 0) close(tree);
  close(target);
  errno = saved;
  return result;
}

static int make_terminal(struct run *run, uint32_t console) {
  int unlock = 0;
  int master = open_below_root("dev/pts/ptmx", O_RDWR | O_NOCTTY);
  if (master < 0 && (errno == ENOENT || errno == EACCES)) master = open_below_root("dev/ptmx", O_RDWR | O_NOCTTY);
  if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0) return -1;
  struct winsize size = {.ws_row = run->streams.rows, .ws_col = run->streams.columns};
  if (size.ws_row > 0 && size.ws_col > 0 && ioctl(master, TIOCSWINSZ, &size) < 0) return -1;
  /* By descriptor, not by name: no path of the container is trusted (4.13). */
  int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0) return -1;
  if (!(console & CONSOLE_LATER)) {
    if (setsid() < 0 && getsid(0) != getpid()) return -1;
    if (ioctl(terminal, TIOCSCTTY, 0) < 0) return -1;
  }
  if (console & CONSOLE_BIND && bind_console(terminal) < 0) return -1;
  if (point_stdio_at(terminal, terminal, terminal) < 0) return -1;
  close(terminal);
  if (ctl_send(run, CTL_STREAMS, 0, 0, &master, 1) < 0) return -1;
  close(master);
  return 0;
}

static int make_pipes(struct run *run) {
  int out[2], err[2], in[2] = {-1, -1};
  if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) return -1;
  if (run->streams.open_stdin) {
    if (pipe2(in, O_CLOEXEC) < 0) return -1;
  } else {
    /* The container's own /dev/null, so that /proc/self/fd/0 names something that it can see. */
    struct stat st;
    in[0] = open_below_root("dev/null", O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (in[0] >= 0 && (fstat(in[0], &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))) {
      close(in[0]);
      in[0] = -1;
    }
    if (in[0] >= 0 && fcntl(in[0], F_SETFL, 0) < 0) return -1;
  }
  /* Its /dev/null is something else: nothing to read then. Ours would be a device of the host that the container could change the mode of. */
  if (in[0] < 0) {
    int ended[2];
    if (pipe2(ended, O_CLOEXEC) < 0) return -1;
    close(ended[1]);
    in[0] = ended[0];
  }
  if (point_stdio_at(in[0], out[1], err[1]) < 0) return -1;
  int theirs[3] = {out[0], err[0], in[1]};
  if (ctl_send(run, CTL_STREAMS, 0, 0, theirs, in[1] >= 0 ? 3 : 2) < 0) return -1;
  int used[] = {out[0], out[1], err[0], err[1], in[0], in[1]};
  for (size_t i = 0; i < sizeof used / sizeof *used; i++)
    if (used[i] > 2) close(used[i]);
  return 0;
}

int do_stdio(struct run *run, const struct op_stdio *op) {
  int result = run->streams.tty ? make_terminal(run, op->console) : make_pipes(run);
  run->stdio_made = result == 0;
  return result;
}
