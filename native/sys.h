/* System calls that glibc (or an older one) does not wrap, with their constants; and small wrappers used by every role. */
#ifndef WHERRY_SYS_H
#define WHERRY_SYS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Numbers that are the same on every architecture since 5.1 (asm-generic table). */
enum {
  NR_pidfd_send_signal = 424,
  NR_open_tree = 428,
  NR_move_mount = 429,
  NR_fsopen = 430,
  NR_fsconfig = 431,
  NR_fsmount = 432,
  NR_pidfd_open = 434,
  NR_clone3 = 435,
  NR_close_range = 436,
  NR_openat2 = 437,
  NR_mount_setattr = 442,
  NR_quotactl_fd = 443,
};

struct open_how_v0 {
  uint64_t flags, mode, resolve;
};
struct mount_attr_v0 {
  uint64_t attr_set, attr_clr, propagation, userns_fd;
};
struct clone_args_v2 {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#define W_RESOLVE_NO_MAGICLINKS 0x02u
#define W_RESOLVE_IN_ROOT 0x10u
#define W_FSCONFIG_SET_FLAG 0u
#define W_FSCONFIG_SET_STRING 1u
#define W_FSCONFIG_SET_FD 5u
#define W_FSCONFIG_CMD_CREATE 6u
#define W_OPEN_TREE_CLONE 1u
#define W_MOVE_MOUNT_F_EMPTY_PATH 0x04u
#define W_MOVE_MOUNT_T_EMPTY_PATH 0x40u
#define W_MOUNT_ATTR_IDMAP 0x00100000u
#define W_CLONE_INTO_CGROUP 0x200000000ull
#define W_CLONE_PIDFD 0x1000u
#define W_CLOSE_RANGE_CLOEXEC 4u
#define W_AT_RECURSIVE 0x8000u

static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how_v0 how = {flags, mode, resolve};
  long fd;
  /* EAGAIN: a rename elsewhere raced with "..": the kernel asks to try again. */
  for (int i = 0; i < 128; i++) {
    fd = syscall(NR_openat2, dir, path, &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return (int)fd;
}
static inline int sys_close_range(unsigned first, unsigned last, unsigned flags) {
  return (int)syscall(NR_close_range, first, last, flags);
}
static inline int sys_open_tree(int dir, const char *path, unsigned flags) { return (int)syscall(NR_open_tree, dir, path, flags); }
static inline int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags) {
  return (int)syscall(NR_move_mount, from, from_path, to, to_path, flags);
}
static inline int sys_fsopen(const char *type, unsigned flags) { return (int)syscall(NR_fsopen, type, flags); }
static inline int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux) {
  return (int)syscall(NR_fsconfig, fd, cmd, key, value, aux);
}
static inline int sys_fsmount(int fd, unsigned flags, unsigned attrs) { return (int)syscall(NR_fsmount, fd, flags, attrs); }
static inline int sys_mount_setattr(int dir, const char *path, unsigned flags, struct mount_attr_v0 *attr) {
  return (int)syscall(NR_mount_setattr, dir, path, flags, attr, sizeof *attr);
}
static inline int sys_pidfd_open(pid_t pid) { return (int)syscall(NR_pidfd_open, pid, 0); }
static inline int sys_pidfd_send_signal(int fd, int sig) { return (int)syscall(NR_pidfd_send_signal, fd, sig, NULL, 0); }

/* sys.c */
/* Every signal at its default, for the start of a role: its parent may have ignored some. */
void signals_default(void);
/* What this program's roles ignore once they have begun, at its default again: for a process that becomes another program. The mask is emptied. */
void signals_restore(void);
/* Forks with clone3 (or clone where clone3 is refused), so that flags and a pidfd can be given. Returns the pid, 0 in the child. */
pid_t sys_clone(uint64_t flags, int cgroup_fd, int *pidfd);
/* Above a plan's slots (wire.h): descriptors of the process itself. */
enum { HIGH_FD = 400 };
/* Moves a descriptor out of the slots' range (to HIGH_FD and up), close-on-exec; -1 keeps -1. */
int fd_high(int fd);
/* Writes all bytes to a blocking descriptor. */
int write_all(int fd, const void *data, size_t n);
/* Reads up to max bytes until end of file; the count or -1. */
ssize_t read_full(int fd, void *data, size_t max);
/* Writes a decimal number; returns the byte after it. */
char *put_decimal(char *p, uint64_t v);
/* Field 22 of /proc/PID/stat (start time); 0 when the process is gone. */
uint64_t process_start_time(pid_t pid);
/* Creates a unix stream socket at a path (mode 0600, a stale one is replaced) that listens; -1 with errno. */
int listen_at(const char *path);
/* True when the peer's uid is 0 or our own; its pid goes to *pid when given. */
bool peer_is_trusted(int fd, pid_t *pid);
/* Overwrites the process title (ps, /proc/PID/cmdline) and name. */
void set_title(const char *name, const char *detail);
/* main.c keeps where the title lives. */
extern char *title_start;
extern size_t title_size;
#endif
