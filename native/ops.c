/* The operations: each is one system call or one tight group. 0, or -1 with errno. */
#include "path.h"
#include "plan.h"

#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* Stores a fresh descriptor in its slot. */
static int fill_slot(int fd, uint32_t slot) {
  if (fd < 0) return -1;
  int want = SLOT_BASE + (int)slot;
  if (fd == want) return fcntl(fd, F_SETFD, FD_CLOEXEC);
  int result = dup3(fd, want, O_CLOEXEC);
  int saved = errno;
  close(fd);
  errno = saved;
  return result < 0 ? -1 : 0;
}

/* A slot that must hold a descriptor. */
static int need_fd(uint32_t slot) { return slot == NO_SLOT ? -1 : SLOT_BASE + (int)slot; }

static int close_keep(int fd, int result) {
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

/* --- descriptors and files */

int do_openat(struct run *run, const struct op_openat *op) {
  (void)run;
  return fill_slot(path_open(op->dir, op->path.p, op->flags, op->mode), op->out);
}

int do_expect_device(struct run *run, const struct op_expect_device *op) {
  (void)run;
  struct stat st;
  if (fstat(need_fd(op->slot), &st) < 0) return -1;
  return S_ISCHR(st.st_mode) && st.st_rdev == makedev(op->major, op->minor) ? 0 : (errno = ENODEV, -1);
}

int do_expect_fs(struct run *run, const struct op_expect_fs *op) {
  (void)run;
  struct statfs fs;
  if (fstatfs(need_fd(op->slot), &fs) < 0) return -1;
  return (uint32_t)fs.f_type == op->magic ? 0 : (errno = EXDEV, -1);
}

int do_expect_procfs(struct run *run, const struct op_expect_procfs *op) {
  (void)run;
  struct statfs fs;
  struct stat root, first, ns;
  int fd = need_fd(op->slot);
  if (fstatfs(fd, &fs) < 0 || fstat(fd, &root) < 0 || fstat(need_fd(op->pidns), &ns) < 0) return -1;
  /* 1: PROC_ROOT_INO. A directory of it looks alike. Its process 1 is the namespace's first, and gives it a name. */
  if ((uint32_t)fs.f_type != 0x9fa0 /* PROC_SUPER_MAGIC */ || root.st_ino != 1) return errno = EXDEV, -1;
  if (fstatat(fd, "1/ns/pid", &first, 0) < 0) return -1;
  return first.st_ino == ns.st_ino && first.st_dev == ns.st_dev ? 0 : (errno = EXDEV, -1);
}

int do_close(struct run *run, const struct op_close *op) {
  (void)run;
  return close(need_fd(op->slot));
}

int do_mkdir(struct run *run, const struct op_mkdir *op) {
  (void)run;
  if (op->parents) return path_mkdirs(op->dir, op->path.p, op->mode, op->uid, op->gid);
  char base[PATH_SIZE];
  int parent = path_parent(op->dir, op->path.p, base);
  if (parent < 0) return -1;
  if (mkdirat(parent, base, op->mode & 07777) < 0) return close_keep(parent, -1);
  int fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return close_keep(parent, -1);
  int result = (op->uid != UINT32_MAX || op->gid != UINT32_MAX) ? fchown(fd, op->uid, op->gid) : 0;
  if (result == 0) result = fchmod(fd, op->mode & 07777);
  close_keep(fd, 0);
  return close_keep(parent, result);
}

int do_mkfile(struct run *run, const struct op_mkfile *op) {
  (void)run;
  return path_mkfile(op->dir, op->path.p, op->mode, op->parents != 0);
}

int do_mknod(struct run *run, const struct op_mknod *op) {
  (void)run;
  char base[PATH_SIZE];
  int parent = path_parent(op->dir, op->path.p, base);
  if (parent < 0) return -1;
  int result = mknodat(parent, base, op->mode, makedev(op->major, op->minor));
  if (result == 0 && (op->uid != 0 || op->gid != 0)) result = fchownat(parent, base, op->uid, op->gid, AT_SYMLINK_NOFOLLOW);
  struct stat st;
  if (result == 0) result = fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW);
  if (result == 0 && (st.st_mode & 07777) != (op->mode & 07777)) {
    /* The umask has taken bits; a node that we have just made is no symlink, and O_PATH does not open the device. */
    char buffer[40];
    int fd = openat(parent, base, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
      result = chmod(fd_path(fd, buffer), op->mode & 07777);
      close_keep(fd, 0);
    }
  }
  return close_keep(parent, result);
}

int do_symlink(struct run *run, const struct op_symlink *op) {
  (void)run;
  char base[PATH_SIZE];
  int parent = path_parent(op->dir, op->path.p, base);
  return parent < 0 ? -1 : close_keep(parent, symlinkat(op->target.p, parent, base));
}

static int write_once(int fd, const void *data, size_t n) {
  ssize_t done = write(fd, data, n);
  if (done >= 0 && (size_t)done != n) errno = EIO;
  return done == (ssize_t)n ? 0 : -1;
}

int do_write(struct run *run, const struct op_write *op) {
  (void)run;
  uint64_t flags = op->flags;
  if ((flags & O_ACCMODE) == O_RDONLY) flags |= O_WRONLY;
  int fd = path_open(op->dir, op->path.p, flags | O_NOCTTY, 0644);
  return fd < 0 ? -1 : close_keep(fd, write_once(fd, op->data.p, op->data.n));
}

int do_write_pid(struct run *run, const struct op_write_pid *op) {
  char text[24];
  char *end = put_decimal(text, (uint64_t)run->child_pid);
  int fd = path_open(op->dir, op->path.p, O_WRONLY, 0);
  return fd < 0 ? -1 : close_keep(fd, write_once(fd, text, (size_t)(end - text)));
}

/* Opens a regular file to read; what else a container has put there counts as missing. A FIFO would hold us, and to open a device may act on it: we are
 * not bound by the container's device rules. */
static int open_regular(uint32_t dir, const char *path) {
  struct stat st;
  char buffer[40];
  int fd = path_open(dir, path, O_PATH, 0);
  if (fd < 0) return -1;
  if (fstat(fd, &st) < 0) return close_keep(fd, -1);
  if (!S_ISREG(st.st_mode)) return errno = ENOENT, close_keep(fd, -1);
  return close_keep(fd, open(fd_path(fd, buffer), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

int do_report(struct run *run, const struct op_report *op) {
  int fd = open_regular(op->dir, op->path.p);
  if (fd < 0) return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? send_report(run, op->tag, true, NULL, 0) : -1;
  size_t max = op->max > MAX_STRING ? MAX_STRING : op->max;
  char small[4096];
  char *data = small;
  if (max > sizeof small) {
    data = mmap(NULL, max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return close_keep(fd, -1);
  }
  ssize_t n = read_full(fd, data, max);
  int result = n < 0 ? -1 : send_report(run, op->tag, false, data, (size_t)n);
  int saved = errno;
  if (data != small) munmap(data, max);
  errno = saved;
  return close_keep(fd, result);
}

static int remove_entry(uint32_t dir, const char *path, int flags) {
  char base[PATH_SIZE];
  int parent = path_parent(dir, path, base);
  return parent < 0 ? -1 : close_keep(parent, unlinkat(parent, base, flags));
}

int do_rmdir(struct run *run, const struct op_rmdir *op) {
  (void)run;
  return remove_entry(op->dir, op->path.p, AT_REMOVEDIR);
}

int do_unlink(struct run *run, const struct op_unlink *op) {
  (void)run;
  return remove_entry(op->dir, op->path.p, 0);
}

int do_chown(struct run *run, const struct op_chown *op) {
  (void)run;
  char base[PATH_SIZE];
  int parent = path_parent(op->dir, op->path.p, base);
  return parent < 0 ? -1 : close_keep(parent, fchownat(parent, base, op->uid, op->gid, AT_SYMLINK_NOFOLLOW));
}

/* --- mounts */

int do_fsopen(struct run *run, const struct op_fsopen *op) {
  (void)run;
  return fill_slot(sys_fsopen(op->fstype.p, 1 /* FSOPEN_CLOEXEC */), op->out);
}

int do_fsconfig_str(struct run *run, const struct op_fsconfig_str *op) {
  (void)run;
  return sys_fsconfig(need_fd(op->fs), W_FSCONFIG_SET_STRING, op->key.p, op->value.p, 0);
}

int do_fsconfig_flag(struct run *run, const struct op_fsconfig_flag *op) {
  (void)run;
  return sys_fsconfig(need_fd(op->fs), W_FSCONFIG_SET_FLAG, op->key.p, NULL, 0);
}

int do_fsconfig_fd(struct run *run, const struct op_fsconfig_fd *op) {
  (void)run;
  return sys_fsconfig(need_fd(op->fs), W_FSCONFIG_SET_FD, op->key.p, NULL, need_fd(op->fd));
}

int do_fsconfig_dirs(struct run *run, const struct op_fsconfig_dirs *op) {
  (void)run;
  const uint8_t *at = op->paths.p;
  for (uint32_t i = 0; i < op->paths.count; i++) {
    const char *path = strs_next(&at);
    if (op->dir == NO_SLOT) {
      if (sys_fsconfig(need_fd(op->fs), W_FSCONFIG_SET_STRING, op->key.p, path, 0) < 0) return -1;
      continue;
    }
    int fd = path_open(op->dir, path, O_PATH | O_DIRECTORY, 0);
    if (fd < 0) return -1;
    if (close_keep(fd, sys_fsconfig(need_fd(op->fs), W_FSCONFIG_SET_FD, op->key.p, NULL, fd)) < 0) return -1;
  }
  return 0;
}

int do_fsmount(struct run *run, const struct op_fsmount *op) {
  (void)run;
  if (sys_fsconfig(need_fd(op->fs), W_FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) return -1;
  return fill_slot(sys_fsmount(need_fd(op->fs), 1 /* FSMOUNT_CLOEXEC */, (unsigned)op->attrs), op->out);
}

int do_open_tree(struct run *run, const struct op_open_tree *op) {
  (void)run;
  unsigned flags = op->flags | O_CLOEXEC; /* OPEN_TREE_CLOEXEC */
  if (op->dir == NO_SLOT) return fill_slot(sys_open_tree(AT_FDCWD, op->path.p, flags), op->out);
  if (!op->path.p[0]) return fill_slot(sys_open_tree(need_fd(op->dir), "", flags | AT_EMPTY_PATH), op->out);
  int fd = path_open(op->dir, op->path.p, O_PATH, 0);
  if (fd < 0) return -1;
  int tree = sys_open_tree(fd, "", flags | AT_EMPTY_PATH);
  return fill_slot(close_keep(fd, tree), op->out);
}

int do_mount_setattr(struct run *run, const struct op_mount_setattr *op) {
  (void)run;
  struct mount_attr_v0 attr = {op->set, op->clr, op->propagation, op->userns == NO_SLOT ? 0 : (uint64_t)need_fd(op->userns)};
  if (op->userns != NO_SLOT) attr.attr_set |= W_MOUNT_ATTR_IDMAP;
  return sys_mount_setattr(need_fd(op->mnt), "", AT_EMPTY_PATH | (op->recursive ? W_AT_RECURSIVE : 0), &attr);
}

int do_move_mount(struct run *run, const struct op_move_mount *op) {
  (void)run;
  int target = path_open(op->dir, op->path.p, O_PATH, 0);
  if (target < 0) return -1;
  return close_keep(target, sys_move_mount(need_fd(op->mnt), "", target, "", W_MOVE_MOUNT_F_EMPTY_PATH | W_MOVE_MOUNT_T_EMPTY_PATH));
}

int do_mount(struct run *run, const struct op_mount *op) {
  (void)run;
  char buffer[40];
  const void *data = op->data.n > 0 ? op->data.p : NULL;
  if (op->dir == NO_SLOT) return mount(op->source.p, op->path.p, op->fstype.p, op->flags, data);
  int target = path_open(op->dir, op->path.p, O_PATH, 0);
  if (target < 0) return -1;
  return close_keep(target, mount(op->source.p, fd_path(target, buffer), op->fstype.p, op->flags, data));
}

/* By way of the parent directory: a descriptor of the mount itself would keep it busy. */
int do_umount(struct run *run, const struct op_umount *op) {
  (void)run;
  char base[PATH_SIZE];
  if (op->dir == NO_SLOT) return umount2(op->path.p, (int)op->flags);
  int parent = path_parent(op->dir, op->path.p, base);
  if (parent < 0) return -1;
  int old = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  int result = fchdir(parent);
  if (result == 0) result = umount2(base, (int)op->flags | UMOUNT_NOFOLLOW);
  int saved = errno;
  if (old >= 0) {
    if (fchdir(old) < 0 && chdir("/") < 0) result = -1;
    close(old);
  }
  errno = saved;
  return close_keep(parent, result);
}

/* pivot_root(".", ".") stacks the old root on the new one; it becomes a slave first, so that its end does not travel to the host. */
int do_pivot_root(struct run *run, const struct op_pivot_root *op) {
  (void)run;
  int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (old < 0) return -1;
  int result = fchdir(need_fd(op->root));
  if (result == 0) result = (int)syscall(SYS_pivot_root, ".", ".");
  if (result == 0) result = fchdir(old);
  if (result == 0) result = mount("", ".", "", MS_SLAVE | MS_REC, NULL);
  if (result == 0) result = umount2(".", MNT_DETACH);
  if (result == 0) result = chdir("/");
  return close_keep(old, result);
}

int do_chroot(struct run *run, const struct op_chroot *op) {
  (void)run;
  if (fchdir(need_fd(op->dir)) < 0 || chroot(".") < 0) return -1;
  return chdir("/");
}

/* A NULL-terminated vector over a list of the plan. mmap, not malloc: the child may only make plain system calls. */
static char **vector(const struct strs *list) {
  size_t size = ((size_t)list->count + 1) * sizeof(char *);
  char **v = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (v == MAP_FAILED) return NULL;
  const uint8_t *at = list->p;
  for (uint32_t i = 0; i < list->count; i++) v[i] = (char *)strs_next(&at);
  return v;
}

/* --- storage */

int do_ioctl(struct run *run, const struct op_ioctl *op) {
  _Alignas(8) uint8_t arg[8192];
  if (op->arg.n > sizeof arg) return errno = E2BIG, -1;
  memcpy(arg, op->arg.p, op->arg.n);
  if (ioctl(need_fd(op->fd), op->request, arg) < 0) return -1;
  return op->tag == 0 ? 0 : send_report(run, op->tag, false, arg, op->arg.n);
}

/* A device that has no file, as it was a moment ago; its node is made where nobody else does that (no devtmpfs, no udev). */
static int open_free_loop(int control) {
  int number = ioctl(control, LOOP_CTL_GET_FREE);
  if (number < 0) return -1;
  char path[32] = "/dev/loop";
  *put_decimal(path + strlen(path), (uint64_t)number) = 0;
  int device = open(path, O_RDONLY | O_CLOEXEC);
  if (device >= 0 || errno != ENOENT) return device;
  if (mknod(path, S_IFBLK | 0660, makedev(LOOP_MAJOR, (unsigned)number)) < 0 && errno != EEXIST) return -1;
  return open(path, O_RDONLY | O_CLOEXEC);
}

/* LOOP_CONFIGURE (Linux 5.8) sets the file and everything else at once: nobody sees a device that is half made. Direct I/O that the filesystem cannot do is left out by the kernel. */
int do_loop(struct run *run, const struct op_loop *op) {
  (void)run;
  int file = open(op->path.p, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return close_keep(file, -1);
  struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};
  int device = -1;
  for (int tried = 0; tried < 100; tried++) {
    device = open_free_loop(control);
    if (device < 0 || ioctl(device, LOOP_CONFIGURE, &config) == 0) break;
    close_keep(device, 0);
    device = -1;
    /* Somebody else took it meanwhile. */
    if (errno != EBUSY) break;
  }
  close_keep(control, 0);
  close_keep(file, 0);
  return fill_slot(device, op->out);
}

int do_quotactl(struct run *run, const struct op_quotactl *op) {
  _Alignas(8) uint8_t arg[256];
  if (op->arg.n > sizeof arg) return errno = E2BIG, -1;
  memcpy(arg, op->arg.p, op->arg.n);
  long result = op->special.n > 0 ? syscall(SYS_quotactl, op->cmd, op->special.p, op->id, arg) : syscall(NR_quotactl_fd, need_fd(op->fd), op->cmd, op->id, arg);
  if (result < 0) return -1;
  return op->tag == 0 ? 0 : send_report(run, op->tag, false, arg, op->arg.n);
}

static char *const program_environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};

/* A process that may become any program: no descriptors of ours but `keep` (at 3, closed by exec) and, for output, `output` (NULL = none); default signals. */
static void plain_process(const int *output, int keep) {
  int null = open("/dev/null", O_RDWR);
  if (null < 0 || dup2(null, 0) < 0) _exit(errno);
  for (int fd = 1; fd < 3; fd++)
    if (dup2(output ? *output : null, fd) < 0) _exit(errno);
  if (keep >= 0 && dup2(keep, 3) < 0) _exit(errno);
  if (keep >= 0) fcntl(3, F_SETFD, FD_CLOEXEC);
  sys_close_range(keep >= 0 ? 4 : 3, ~0u, 0);
  signals_restore();
}

enum { PROGRAM_OUTPUT = 64 << 10 };

int do_program(struct run *run, const struct op_program *op) {
  char **argv = vector(&op->argv);
  int out[2], status = 0;
  if (!argv || op->argv.count == 0) return errno = EINVAL, -1;
  uint8_t *report = mmap(NULL, 4 + PROGRAM_OUTPUT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (report == MAP_FAILED || pipe2(out, O_CLOEXEC) < 0) return -1;
  /* Ignored, the kernel would reap it, and its status would be lost. */
  signal(SIGCHLD, SIG_DFL);
  pid_t pid = fork();
  if (pid == 0) {
    plain_process(&out[1], -1);
    execve(argv[0], argv, program_environment);
    _exit(127);
  }
  close(out[1]);
  if (pid < 0) return close_keep(out[0], -1);
  size_t n = 4;
  for (;;) {
    uint8_t rest[4096];
    bool full = n == 4 + PROGRAM_OUTPUT;
    ssize_t got = full ? read(out[0], rest, sizeof rest) : read(out[0], report + n, 4 + PROGRAM_OUTPUT - n);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (!full) n += (size_t)got;
  }
  close(out[0]);
  pid_t waited;
  do waited = waitpid(pid, &status, 0);
  while (waited < 0 && errno == EINTR);
  if (waited < 0) return -1;
  for (int i = 0; i < 4; i++) report[i] = (uint8_t)((uint32_t)status >> (8 * i));
  int result = send_report(run, op->tag, false, report, n), saved = errno;
  munmap(report, 4 + PROGRAM_OUTPUT);
  return errno = saved, result;
}

enum { BESIDE_WAIT_MS = 10000, MAX_READY = 3, LIFE_FD = 4 };

_Noreturn static void run_beside(char **argv, pid_t monitor, int netns, int life, int ready, uint32_t ready_as) {
  int null = open("/dev/null", O_RDWR);
  netns = fcntl(netns, F_DUPFD, 10), ready = fcntl(ready, F_DUPFD, 10), life = fcntl(life, F_DUPFD, 10);
  if (null < 0 || netns < 0 || ready < 0 || life < 0) _exit(errno);
  for (int fd = 1; fd < 3; fd++)
    if (dup2(null, fd) < 0) _exit(errno);
  if (dup2(netns, 0) < 0 || dup2(ready, (int)ready_as) < 0 || dup2(life, LIFE_FD) < 0) _exit(errno);
  sys_close_range(LIFE_FD + 1, ~0u, 0);
  if (ready_as != MAX_READY) close(MAX_READY);
  signals_restore();
  setsid();
  /* For those that do not look at the pipe. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != monitor) _exit(ESRCH);
  execve(argv[0], argv, program_environment);
  _exit(127);
}

int do_beside(struct run *run, const struct op_beside *op) {
  char **argv = vector(&op->argv), path[64];
  int ready[2], life[2];
  if (!argv || op->argv.count == 0 || op->ready == 0 || op->ready > MAX_READY) return errno = EINVAL, -1;
  stpcpy(put_decimal(stpcpy(path, "/proc/"), (uint64_t)run->child_pid), "/ns/net");
  int netns = open(path, O_RDONLY | O_CLOEXEC);
  if (netns < 0 || pipe2(ready, O_CLOEXEC) < 0) return close_keep(netns, -1);
  if (pipe2(life, O_CLOEXEC) < 0) return close(netns), close(ready[0]), close_keep(ready[1], -1);
  pid_t monitor = getpid(), pid = fork();
  if (pid == 0) run_beside(argv, monitor, netns, life[0], ready[1], op->ready);
  close(netns), close(ready[1]), close(life[0]);
  /* Open as long as we are: nobody writes to it. */
  int held = pid < 0 ? -1 : fd_high(life[1]);
  char byte;
  struct pollfd one = {ready[0], POLLIN, 0};
  int said = held < 0 ? -1 : poll(&one, 1, BESIDE_WAIT_MS);
  int error = said < 0 ? errno : said == 0 ? ETIMEDOUT : read(ready[0], &byte, 1) == 1 ? 0 : ECHILD;
  close(ready[0]);
  if (error == 0) return 0;
  if (held >= 0) close(held);
  return errno = error, -1;
}

enum { FUSE_MAGIC = 0x65735546, FUSE_WAIT_MS = 10000 };

/* In a process of its own: the program, and then its mount's way to `socket`. */
_Noreturn static void serve_fuse(const char *path, char **argv, int socket) {
  int tree = -1, status;
  if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_SLAVE | MS_REC, NULL) < 0) _exit(errno);
  plain_process(NULL, socket);
  pid_t pid = fork();
  if (pid < 0) _exit(errno);
  if (pid == 0) {
    setsid();
    execve(argv[0], argv, program_environment);
    _exit(127);
  }
  for (int waited = 0;; waited += 2) {
    struct statfs fs;
    if (statfs(path, &fs) == 0 && (uint32_t)fs.f_type == FUSE_MAGIC) break;
    if (waitpid(pid, &status, WNOHANG) == pid && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) _exit(WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : EIO);
    if (waited >= FUSE_WAIT_MS) {
      kill(pid, SIGKILL);
      _exit(ETIMEDOUT);
    }
    usleep(2000);
  }
  tree = sys_open_tree(AT_FDCWD, path, W_OPEN_TREE_CLONE | O_CLOEXEC);
  /* The program stays in this namespace: mounted here, too, it would keep itself alive. */
  if (tree < 0 || umount2(path, MNT_DETACH) < 0) _exit(errno);
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct iovec part = {"", 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(&control.head), &tree, sizeof tree);
  _exit(sendmsg(3, &message, MSG_NOSIGNAL) < 0 ? errno : 0);
}

static int take_descriptor(int socket) {
  char byte;
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n;
  do n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) return errno = EIO, -1;
  int fd;
  memcpy(&fd, CMSG_DATA(c), sizeof fd);
  return fd;
}

int do_fuse(struct run *run, const struct op_fuse *op) {
  (void)run;
  char **argv = vector(&op->argv);
  int pair[2], status;
  if (!argv || op->argv.count == 0) return errno = EINVAL, -1;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -1;
  pid_t pid = fork();
  if (pid == 0) serve_fuse(op->path.p, argv, pair[1]);
  close(pair[1]);
  if (pid < 0) return close_keep(pair[0], -1);
  int fd = take_descriptor(pair[0]);
  close(pair[0]);
  /* Ignored SIGCHLD (a file worker's) reaps by itself. */
  pid_t waited;
  do waited = waitpid(pid, &status, 0);
  while (waited < 0 && errno == EINTR);
  if (fd >= 0) return fill_slot(fd, op->out);
  return errno = waited == pid && WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EIO, -1;
}

/* --- namespaces and processes */

static int renew_deathsig(const struct run *run) {
  /* Changes of credentials clear it. */
  return run->child ? prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) : 0;
}

int do_unshare(struct run *run, const struct op_unshare *op) { return unshare((int)op->flags) < 0 ? -1 : renew_deathsig(run); }

int do_setns(struct run *run, const struct op_setns *op) {
  return setns(need_fd(op->fd), (int)op->flags) < 0 ? -1 : renew_deathsig(run);
}

int do_pidfd_open(struct run *run, const struct op_pidfd_open *op) {
  (void)run;
  int fd = sys_pidfd_open((pid_t)op->pid);
  if (fd < 0) return -1;
  /* Open first, look then: the descriptor cannot be reused, the number can. */
  if (op->starttime != 0 && process_start_time((pid_t)op->pid) != op->starttime) {
    close(fd);
    return errno = ESRCH, -1;
  }
  return fill_slot(fd, op->out);
}

/* Writes /proc/PID/NAME; empty text = leave it alone. */
static int write_proc(pid_t pid, const char *name, const struct str *text) {
  char path[64] = "/proc/";
  if (text->n == 0) return 0;
  char *end = put_decimal(path + 6, (uint64_t)pid);
  *end++ = '/';
  strcpy(end, name);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  return fd < 0 ? -1 : close_keep(fd, write_once(fd, text->p, text->n));
}

static int open_ns(pid_t pid, const char *name) {
  char path[64] = "/proc/";
  if (strlen(name) > 32 || strchr(name, '/')) return errno = EINVAL, -1;
  strcpy(put_decimal(path + 6, (uint64_t)pid), "/ns/");
  strcat(path, name);
  return open(path, O_RDONLY | O_CLOEXEC);
}

int do_userns_open(struct run *run, const struct op_userns_open *op) {
  (void)run;
  pid_t pid = sys_clone(CLONE_NEWUSER, -1, NULL);
  if (pid < 0) return -1;
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;) pause();
  }
  int fd = -1;
  if (write_proc(pid, "uid_map", &op->uidmap) == 0 && write_proc(pid, "gid_map", &op->gidmap) == 0) fd = open_ns(pid, "user");
  int saved = errno;
  kill(pid, SIGKILL);
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
  }
  errno = saved;
  return fill_slot(fd, op->out);
}

int do_child_maps(struct run *run, const struct op_child_maps *op) {
  if (write_proc(run->child_pid, "setgroups", &op->setgroups) < 0) return -1;
  if (write_proc(run->child_pid, "uid_map", &op->uidmap) < 0) return -1;
  return write_proc(run->child_pid, "gid_map", &op->gidmap);
}

int do_child_proc(struct run *run, const struct op_child_proc *op) {
  if (op->name.n > 32 || strchr(op->name.p, '/')) return errno = EINVAL, -1;
  return write_proc(run->child_pid, op->name.p, &op->data);
}

int do_signal(struct run *run, const struct op_signal *op) { return ctl_send(run, CTL_POINT, op->id, 0, NULL, 0); }

int do_await(struct run *run, const struct op_await *op) {
  while (!(run->reached & 1ull << op->id)) {
    /* The other side has nothing left to do: it will never come. */
    if (run->child ? run->go : run->child_ready) return errno = EDEADLK, -1;
    if (run_pump(run, true) < 0) return -1;
  }
  return 0;
}

int do_child_ns(struct run *run, const struct op_child_ns *op) { return fill_slot(open_ns(run->child_pid, op->name.p), op->out); }

int do_names(struct run *run, const struct op_names *op) {
  return run->open_names ? run->open_names(run, op->address, op->port) : (errno = EINVAL, -1);
}

int do_hold_ns(struct run *run, const struct op_hold_ns *op) {
  int fd = fd_high(open_ns(run->child_pid, op->name.p));
  if (fd < 0) return -1;
  if (run->held_ns >= 0) close(run->held_ns);
  run->held_ns = fd;
  return 0;
}

/* The plan's bytes are given back before that: copied. */
int do_rmdir_late(struct run *run, const struct op_rmdir_late *op) {
  size_t size = 1;
  const uint8_t *at = op->paths.p;
  for (uint32_t i = 0; i < op->paths.count; i++) size += strlen(strs_next(&at)) + 1;
  char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *to = copy;
  if (copy == MAP_FAILED) return -1;
  at = op->paths.p;
  for (uint32_t i = 0; i < op->paths.count; i++) to = stpcpy(to, strs_next(&at)) + 1;
  run->late = (struct late){copy, op->paths.count};
  return 0;
}

int do_attach_gate(struct run *run, const struct op_attach_gate *op) {
  (void)op; /* on the child's side the monitor waits before it lets exec go */
  return !run->child && run->wait_gate ? run->wait_gate(run) : 0;
}

/* --- identity and confinement */

int do_sethostname(struct run *run, const struct op_sethostname *op) {
  (void)run;
  return sethostname(op->name.p, op->name.n);
}

int do_setdomainname(struct run *run, const struct op_setdomainname *op) {
  (void)run;
  return setdomainname(op->name.p, op->name.n);
}

int do_rlimit(struct run *run, const struct op_rlimit *op) {
  (void)run;
  struct rlimit limit = {op->soft, op->hard};
  return setrlimit((int)op->resource, &limit);
}

int do_cap_bset(struct run *run, const struct op_cap_bset *op) {
  (void)run;
  for (int cap = 0; cap < 64; cap++) {
    if (op->keep & 1ull << cap) continue;
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) return errno == EINVAL ? 0 : -1; /* EINVAL: beyond the last one */
  }
  return 0;
}

int do_capset(struct run *run, const struct op_capset *op) {
  (void)run;
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {
      {(uint32_t)op->effective, (uint32_t)op->permitted, (uint32_t)op->inheritable},
      {(uint32_t)(op->effective >> 32), (uint32_t)(op->permitted >> 32), (uint32_t)(op->inheritable >> 32)},
  };
  return (int)syscall(SYS_capset, &head, data);
}

int do_cap_ambient(struct run *run, const struct op_cap_ambient *op) {
  (void)run;
  for (int cap = 0; cap < 64; cap++)
    if (op->mask & 1ull << cap && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0) return -1;
  return 0;
}

int do_prctl(struct run *run, const struct op_prctl *op) {
  (void)run;
  return prctl((int)op->option, (unsigned long)op->arg, 0, 0, 0) < 0 ? -1 : 0;
}

int do_seccomp(struct run *run, const struct op_seccomp *op) {
  (void)run;
  if (op->filter.n % sizeof(struct sock_filter) != 0 || op->filter.n / sizeof(struct sock_filter) > USHRT_MAX) return errno = EINVAL, -1;
  struct sock_fprog program = {(unsigned short)(op->filter.n / sizeof(struct sock_filter)), (struct sock_filter *)(uintptr_t)op->filter.p};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, op->flags, &program);
}

int do_setgroups(struct run *run, const struct op_setgroups *op) {
  (void)run;
  gid_t small[64], *gids = small;
  size_t size = (size_t)op->gids.count * sizeof(gid_t);
  if (op->gids.count > 64) {
    gids = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (gids == MAP_FAILED) return -1;
  }
  for (uint32_t i = 0; i < op->gids.count; i++) gids[i] = get_u32(op->gids.p + 4 * (size_t)i);
  int result = (int)syscall(SYS_setgroups, (size_t)op->gids.count, gids);
  int saved = errno;
  if (gids != small) munmap(gids, size);
  errno = saved;
  return result;
}

int do_setresgid(struct run *run, const struct op_setresgid *op) {
  return syscall(SYS_setresgid, op->gid, op->gid, op->gid) < 0 ? -1 : renew_deathsig(run);
}

int do_setresuid(struct run *run, const struct op_setresuid *op) {
  /* The pipes or the pty become the user's, so that /dev/stdout can be opened; a descriptor that is not ours to give stays as it is. */
  if (run->child && run->stdio_made)
    for (int fd = 0; fd < 3; fd++) {
      struct stat st;
      if (fstat(fd, &st) < 0 || st.st_uid == op->uid || !(S_ISFIFO(st.st_mode) || isatty(fd))) continue;
      int refused = fchown(fd, op->uid, (gid_t)-1);
      (void)refused;
    }
  return syscall(SYS_setresuid, op->uid, op->uid, op->uid) < 0 ? -1 : renew_deathsig(run);
}

int do_fs_ids(struct run *run, const struct op_fs_ids *op) {
  /* capabilities(7): without it, leaving user 0 takes those that overrule permissions. */
  int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
  if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0) return -1;
  syscall(SYS_setfsgid, op->gid);
  syscall(SYS_setfsuid, op->uid);
  /* Both answer with the id before, whatever they did: an id that cannot be is a question. */
  if ((uint32_t)syscall(SYS_setfsgid, -1) != op->gid || (uint32_t)syscall(SYS_setfsuid, -1) != op->uid) return errno = EPERM, -1;
  return renew_deathsig(run);
}

int do_umask(struct run *run, const struct op_umask *op) {
  umask(op->mask & 0777);
  run->umask_set = true;
  return 0;
}

int do_chdir(struct run *run, const struct op_chdir *op) {
  (void)run;
  /* CVE-2024-21626: a working directory such as /proc/self/fd/7 must not lead out by a descriptor of ours. */
  int fd = sys_openat2(AT_FDCWD, op->path.p, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, W_RESOLVE_NO_MAGICLINKS);
  if (fd < 0) return -1;
  if (close_keep(fd, fchdir(fd)) < 0) return -1;
  char cwd[PATH_SIZE];
  long n = syscall(SYS_getcwd, cwd, sizeof cwd);
  if (n < 0) return -1;
  return cwd[0] == '/' ? 0 : (errno = EXDEV, -1); /* "(unreachable)…" lies outside the root */
}

int do_setsid(struct run *run, const struct op_setsid *op) {
  (void)run;
  (void)op;
  return setsid() < 0 && getsid(0) != getpid() ? -1 : 0; /* already a session's leader (after `stdio` with a tty) is fine */
}

int do_block_signals(struct run *run, const struct op_block_signals *op) {
  (void)run;
  (void)op;
  sigset_t all;
  sigfillset(&all);
  return sigprocmask(SIG_SETMASK, &all, NULL);
}

int do_keyring(struct run *run, const struct op_keyring *op) {
  (void)run;
  return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, op->name.p) < 0 ? -1 : 0;
}

int do_close_range(struct run *run, const struct op_close_range *op) {
  (void)run;
  if (sys_close_range(op->first, ~0u, W_CLOSE_RANGE_CLOEXEC) == 0) return 0;
  if (errno != EINVAL) return -1;
  /* 5.10 lacks the flag. */
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
  int end = limit.rlim_cur > 65536 ? 65536 : (int)limit.rlim_cur;
  for (int fd = (int)op->first; fd < end; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
  return 0;
}

int do_exec(struct run *run, const struct op_exec *op) {
  char **argv = vector(&op->argv), **envp = vector(&op->envp);
  if (!argv || !envp) return -1;
  if (!run->umask_set) umask(022);
  /* The host may still be at work (or failing): nothing of the container runs before all its steps are done. */
  if (!run->go && ctl_send(run, CTL_READY, 0, 0, NULL, 0) < 0) return -1;
  while (!run->go)
    if (run_pump(run, true) < 0) return -1;
  if (run->ctl >= 0 && ctl_send(run, CTL_EXEC, 0, 0, NULL, 0) < 0) return -1; /* exec_gate has said it already */
  const uint8_t *at = op->paths.p;
  int error = ENOENT;
  for (uint32_t i = 0; i < op->paths.count; i++) {
    execve(strs_next(&at), argv, envp);
    /* As execvp(3): what is missing is looked for elsewhere, what may not be run is only told when nothing else is found. */
    if (errno == EACCES) error = EACCES;
    else if (errno != ENOENT && errno != ENOTDIR) return -1;
  }
  return errno = error, -1;
}
