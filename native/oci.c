/* Operations that only an OCI spec asks for: scheduling, execution domain, seccomp's listener, tmpcopyup. */
#include "path.h"
#include "plan.h"

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>

int do_personality(struct run *run, const struct op_personality *op) {
  (void)run;
  return personality(op->persona) < 0 ? -1 : 0;
}

/* sched_attr of linux/sched/types.h, its first version. */
struct sched_attr_v0 {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

int do_sched_attr(struct run *run, const struct op_sched_attr *op) {
  (void)run;
  struct sched_attr_v0 attr = {sizeof attr, op->policy, op->flags, op->nice, op->priority, op->runtime, op->deadline, op->period};
  return (int)syscall(SYS_sched_setattr, 0, &attr, 0);
}

int do_ioprio(struct run *run, const struct op_ioprio *op) {
  (void)run;
  return (int)syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, op->value);
}

int do_affinity(struct run *run, const struct op_affinity *op) {
  (void)run;
  unsigned long mask[128] = {0}; /* 8192 CPUs; the kernel wants whole words */
  if (op->mask.n > sizeof mask) return errno = EINVAL, -1;
  memcpy(mask, op->mask.p, op->mask.n);
  return (int)syscall(SYS_sched_setaffinity, 0, sizeof mask, mask);
}

/* --- seccomp's listener */

/* The filter may stop any call of the process that installs it, sendmsg too. So a thread that was there before, which the filter does not
 * bind, sends the listener; the two talk through memory only. */
struct messenger {
  int socket;
  const struct bytes *head, *tail;
  char pid[24];
  size_t digits;
  volatile int listener; /* -1 until the filter is installed, -2 when it is not */
  volatile int result;   /* 1 = under way, 0 = sent, negative errno */
};

static int send_listener(void *argument) {
  struct messenger *m = argument;
  while (m->listener == -1) syscall(SYS_sched_yield);
  if (m->listener < 0) syscall(SYS_exit, 0);
  struct iovec parts[3] = {{(void *)(uintptr_t)m->head->p, m->head->n}, {m->pid, m->digits}, {(void *)(uintptr_t)m->tail->p, m->tail->n}};
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3, .msg_control = &control, .msg_controllen = sizeof control};
  int fd = m->listener;
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
  long sent = syscall(SYS_sendmsg, m->socket, &message, MSG_NOSIGNAL);
  int result = sent < 0 ? -errno : (size_t)sent == m->head->n + m->digits + m->tail->n ? 0 : -EMSGSIZE;
  syscall(SYS_close, m->socket);
  syscall(SYS_close, fd);
  m->result = result;
  syscall(SYS_exit, 0);
  return 0;
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  int saved = errno;
  close(fd);
  return errno = saved, -1;
}

/* Two steps of a plan: with an empty filter it connects (where the socket's path can still be reached) and keeps the connection; with a filter and no
 * path it installs it. */
int do_seccomp_notify(struct run *run, const struct op_seccomp_notify *op) {
  enum { STACK = 65536 };
  static int connection = -1;
  static struct messenger m;
  if (op->filter.n == 0) return (connection = fd_high(connect_to(op->socket.p))) < 0 ? -1 : 0;
  if (connection < 0 || op->filter.n % sizeof(struct sock_filter) != 0 || op->filter.n / sizeof(struct sock_filter) > UINT16_MAX) return errno = EINVAL, -1;
  struct sock_fprog program = {(unsigned short)(op->filter.n / sizeof(struct sock_filter)), (struct sock_filter *)(uintptr_t)op->filter.p};
  while (run->progress[1] == 0) syscall(SYS_sched_yield);
  m = (struct messenger){.socket = connection, .head = &op->head, .tail = &op->tail, .listener = -1, .result = 1};
  m.digits = (size_t)(put_decimal(m.pid, run->progress[2] ? run->progress[2] : run->progress[1]) - m.pid);
  char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return -1;
  int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  if (clone(send_listener, stack + STACK, flags, &m) < 0) return -1;
  long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, op->flags | SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  if (fd < 0) {
    m.listener = -2;
    return -1;
  }
  m.listener = (int)fd;
  while (m.result == 1) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return m.result < 0 ? (errno = -m.result, -1) : 0;
}

/* --- tmpcopyup */

enum { MAX_DEPTH = 64 };

static int copy_file(int from, int to) {
  for (;;) {
    ssize_t n = sendfile(to, from, NULL, 1 << 20);
    if (n == 0) return 0;
    if (n < 0 && errno != EINTR) return -1;
  }
}

static int copy_entries(int from, int to, int depth);

/* One entry, without following links: what is opened is what was looked at. */
static int copy_entry(int from, int to, const char *name, int depth) {
  struct stat st;
  if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  int result = 0;
  if (S_ISLNK(st.st_mode)) {
    char target[PATH_SIZE];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);
    if (n < 0) return -1;
    target[n] = 0;
    result = symlinkat(target, to, name);
  } else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
    bool dir = S_ISDIR(st.st_mode);
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (dir ? O_DIRECTORY : O_NONBLOCK));
    if (in < 0) return -1;
    if (dir && mkdirat(to, name, 0700) < 0) result = -1;
    int out = result < 0 ? -1 : dir ? openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    result = out < 0 ? -1 : dir ? copy_entries(in, out, depth + 1) : copy_file(in, out);
    if (result == 0) result = fchown(out, st.st_uid, st.st_gid);
    if (result == 0) result = fchmod(out, st.st_mode & 07777);
    if (result == 0) result = futimens(out, times);
    int saved = errno;
    close(in);
    if (out >= 0) close(out);
    return errno = saved, result;
  } else {
    result = mknodat(to, name, st.st_mode, st.st_rdev);
  }
  if (result == 0) result = fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
  return result < 0 ? -1 : utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
}

/* getdents64 on the stack: the child may only make plain system calls. */
static int copy_entries(int from, int to, int depth) {
  if (depth > MAX_DEPTH) return errno = ELOOP, -1;
  _Alignas(struct dirent64) char buffer[2048];
  for (;;) {
    long n = syscall(SYS_getdents64, from, buffer, sizeof buffer);
    if (n <= 0) return (int)n;
    for (long at = 0; at < n;) {
      struct dirent64 *entry = (struct dirent64 *)(void *)(buffer + at);
      at += entry->d_reclen;
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      if (copy_entry(from, to, entry->d_name, depth) < 0) return -1;
    }
  }
}

int do_copy_tree(struct run *run, const struct op_copy_tree *op) {
  (void)run;
  int from = path_open(op->from, "", O_RDONLY | O_DIRECTORY, 0);
  if (from < 0) return -1;
  int result = copy_entries(from, SLOT_BASE + (int)op->to, 0);
  int saved = errno;
  close(from);
  return errno = saved, result;
}
