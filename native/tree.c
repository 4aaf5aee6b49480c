#include "tree.h"
#include "plan.h"
#include "roles.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { RELAY = 3, ACCEPT_MS = 30000, PLAN_ROOT = SLOT_BASE };

struct meta {
  uint32_t mode, uid, gid;
  uint64_t mtime_ns;
  struct reader xattrs; /* validated */
  uint32_t n_xattrs;
};

static struct {
  int socket, root;
  int fds; /* our /proc/self/fd, opened before the chroot */
  bool guarded;
  uint8_t *in;
  size_t start, end;
  uint8_t *answers; /* the first `answered` bytes wait to be sent; an answer is built behind them */
  size_t answered;
  struct answer out;
  int file; /* the open file; -1 = none */
  bool hole_at_end;
  char file_path[TREE_PATH];
  struct walk *walks[MAX_OPEN];
  int reads[MAX_OPEN];
  /* The first failure since the last flush. Until then what changes the tree is skipped. */
  int failed_errno;
  uint8_t failed_op;
  uint32_t failed_id;
  char failed_path[TREE_PATH];
} T;

/* --- answers */

static void flush_answers(void) {
  if (T.answered > 0 && write_all(T.socket, T.answers, T.answered) < 0) _exit(0);
  T.answered = 0;
}

/* Sent with those after it, at the latest when there is nothing to do. */
static void send_answer(uint8_t type, uint32_t id) {
  put_head(T.out.data, type, id, T.out.n - FRAME_HEAD);
  T.answered += T.out.n;
  if (T.answered > 2 * TREE_BATCH) flush_answers();
}

static void begin_answer(void) { T.out = (struct answer){T.answers + T.answered, FRAME_HEAD, false}; }

static void send_plain(uint8_t type, uint32_t id) {
  begin_answer();
  send_answer(type, id);
}

static void send_error(uint32_t id, uint8_t op, int error, const char *path) {
  begin_answer();
  answer_u8(&T.out, op);
  answer_u32(&T.out, (uint32_t)error);
  answer_bytes(&T.out, path, strlen(path));
  send_answer(T_ERROR, id);
}

/* --- decoding */

/* Guarded: goes to the directory that holds `path` and leaves the last component, which nothing follows. "x/." is what the link x leads to. */
static int enter(const char **path) {
  char parent[TREE_PATH];
  const char *slash = strrchr(*path, '/'), *base = slash ? slash + 1 : *path;
  size_t n = (size_t)(base - *path);
  if (base[0] == 0 || strcmp(base, ".") == 0) {
    n = strlen(*path);
    base = ".";
  }
  memcpy(parent, *path, n);
  strcpy(parent + n, n > 0 ? "" : ".");
  int fd = sys_openat2(T.root, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, W_RESOLVE_IN_ROOT | W_RESOLVE_NO_MAGICLINKS);
  if (fd < 0) return -1;
  int result = is_kernel_filesystem(fd) ? (errno = ENOENT, -1) : fchdir(fd), saved = errno;
  close(fd);
  *path = base;
  return errno = saved, result;
}

/* A path below the root: relative, without "..", short enough; "" is the root itself. (The chroot would hold anyway.) */
static int take_path(struct reader *r, const char **path) {
  struct str s;
  if (read_str(r, &s)) return errno = EBADMSG, -1;
  *path = s.n > 0 ? s.p : ".";
  if (s.n >= TREE_PATH) return errno = ENAMETOOLONG, -1;
  if (s.p[0] == '/') return errno = EXDEV, -1;
  for (const char *p = s.p; *p;) {
    const char *end = strchrnul(p, '/');
    if (end - p == 2 && p[0] == '.' && p[1] == '.') return errno = EXDEV, -1;
    p = *end ? end + 1 : end;
  }
  return T.guarded ? enter(path) : 0;
}

static int take_meta(struct reader *r, struct meta *meta) {
  if (read_u32(r, &meta->mode) || read_u32(r, &meta->uid) || read_u32(r, &meta->gid) || read_u64(r, &meta->mtime_ns) || read_u32(r, &meta->n_xattrs)) return errno = EBADMSG, -1;
  meta->xattrs = *r;
  for (uint32_t i = 0; i < meta->n_xattrs; i++) {
    struct str name;
    struct bytes value;
    if (read_str(r, &name) || read_bytes(r, &value)) return errno = EBADMSG, -1;
  }
  return 0;
}

static int finished(const struct reader *r) { return left(r) == 0 ? 0 : (errno = EBADMSG, -1); }

/* --- metadata. Order: chown drops set-uid bits and file capabilities, and every change but utimens sets the time. */

static struct timespec mtime_of(const struct meta *meta) {
  int64_t t = (int64_t)meta->mtime_ns;
  int64_t seconds = t / 1000000000, rest = t % 1000000000;
  if (rest < 0) rest += 1000000000, seconds--;
  return (struct timespec){seconds, rest};
}

/* An xattr that the filesystem does not know (tmpfs and user.*) is no reason to refuse a whole image: Docker ignores it too. */
static int set_xattrs(int fd, const char *path, bool follow, const struct meta *meta) {
  struct reader r = meta->xattrs;
  for (uint32_t i = 0; i < meta->n_xattrs; i++) {
    struct str name;
    struct bytes value;
    if (read_str(&r, &name) || read_bytes(&r, &value)) return errno = EBADMSG, -1;
    int result = fd >= 0  ? fsetxattr(fd, name.p, value.p, value.n, 0)
                 : follow ? setxattr(path, name.p, value.p, value.n, 0)
                          : lsetxattr(path, name.p, value.p, value.n, 0);
    if (result < 0 && errno != ENOTSUP) return -1;
  }
  return 0;
}

static int set_meta_fd(int fd, const struct meta *meta) {
  struct timespec times[2] = {mtime_of(meta), mtime_of(meta)};
  if (fchown(fd, meta->uid, meta->gid) < 0 || fchmod(fd, meta->mode & 07777) < 0 || set_xattrs(fd, NULL, false, meta) < 0) return -1;
  return futimens(fd, times);
}

/* By way of a descriptor: chmod(2) and setxattr(2) would follow what a container has put there since we looked. */
static int set_meta_guarded(const char *path, const struct meta *meta) {
  struct timespec times[2] = {mtime_of(meta), mtime_of(meta)};
  struct stat st;
  char self[24];
  int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), result = -1;
  if (fd < 0) return -1;
  *put_decimal(self, (uint64_t)fd) = 0;
  if (fstat(fd, &st) == 0 && fchdir(T.fds) == 0 && chown(self, meta->uid, meta->gid) == 0 && (S_ISLNK(st.st_mode) || chmod(self, meta->mode & 07777) == 0) &&
      set_xattrs(-1, self, true, meta) == 0)
    result = utimensat(AT_FDCWD, self, times, 0);
  int saved = errno;
  close(fd);
  return errno = saved, result;
}

static int set_meta(const char *path, const struct meta *meta) {
  if (T.guarded) return set_meta_guarded(path, meta);
  struct timespec times[2] = {mtime_of(meta), mtime_of(meta)};
  struct stat st;
  if (lstat(path, &st) < 0 || lchown(path, meta->uid, meta->gid) < 0) return -1;
  if (!S_ISLNK(st.st_mode) && chmod(path, meta->mode & 07777) < 0) return -1;
  if (set_xattrs(-1, path, false, meta) < 0) return -1;
  return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

/* --- what changes the tree */

/* Makes the missing directories above a path (0755, root's), as tar readers do for archives that leave them out. */
static int make_parents(const char *path) {
  char part[TREE_PATH];
  strcpy(part, path);
  for (char *p = strchr(part, '/'); p; p = strchr(p + 1, '/')) {
    *p = 0;
    if (part[0] && mkdir(part, 0755) < 0 && errno != EEXIST) return -1;
    *p = '/';
  }
  return 0;
}

/* Why making something failed: parents are missing (made: try again), something is there (removed: try again), or for good. */
static bool cleared(const char *path, int attempt) {
  if (attempt > 1) return false;
  if (errno == ENOENT) return make_parents(path) == 0;
  if (errno == EEXIST) return remove_tree(path) == 0;
  return false;
}

static int set_dir_meta(const char *path, const struct meta *meta) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = set_meta_fd(fd, meta), saved = errno;
  close(fd);
  return errno = saved, result;
}

static int make_dir(const char *path, const struct meta *meta) {
  for (int attempt = 0; mkdir(path, 0700) < 0; attempt++) {
    struct stat st;
    if (errno == EEXIST) {
      if (lstat(path, &st) < 0) return -1;
      if (S_ISDIR(st.st_mode)) break;
      errno = EEXIST;
    }
    if (!cleared(path, attempt)) return -1;
  }
  return set_dir_meta(path, meta);
}

static int open_file(const char *path, const char *asked, mode_t mode) {
  if (T.file >= 0) return errno = EBUSY, -1;
  for (int attempt = 0; (T.file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)) < 0; attempt++)
    if (!cleared(path, attempt)) return -1;
  snprintf(T.file_path, sizeof T.file_path, "%s", asked);
  T.hole_at_end = false;
  return 0;
}

static int append(struct reader *r) {
  if (T.file < 0) return errno = EBADF, -1;
  T.hole_at_end = false;
  return write_all(T.file, r->at, left(r));
}

static int skip(uint64_t n) {
  if (T.file < 0) return errno = EBADF, -1;
  T.hole_at_end = true;
  return n > INT64_MAX || lseek(T.file, (off_t)n, SEEK_CUR) < 0 ? -1 : 0;
}

static void drop_file(void) {
  if (T.file >= 0) close(T.file);
  T.file = -1;
}

/* Ends the open file, whose metadata were set with this result. */
static int end_file(int result) {
  int fd = T.file;
  T.file = -1;
  /* close(2) is where a network filesystem tells that there was no room. */
  int saved = errno;
  if (close(fd) < 0 && result == 0) return -1;
  errno = saved;
  return result;
}

static int close_file(const struct meta *meta) {
  if (T.file < 0) return errno = EBADF, -1;
  int result = T.hole_at_end ? ftruncate(T.file, lseek(T.file, 0, SEEK_CUR)) : 0;
  return end_file(result == 0 ? set_meta_fd(T.file, meta) : result);
}

/* A file that we have made: each change of its metadata is a transaction of the filesystem, and most need only that of the time. */
static int set_new_meta(int fd, const struct meta *meta) {
  struct timespec times[2] = {mtime_of(meta), mtime_of(meta)};
  struct stat st;
  if (fstat(fd, &st) < 0) return -1;
  bool owned = st.st_uid == meta->uid && st.st_gid == meta->gid;
  if (!owned && fchown(fd, meta->uid, meta->gid) < 0) return -1;
  if ((!owned || (st.st_mode & 07777) != (meta->mode & 07777)) && fchmod(fd, meta->mode & 07777) < 0) return -1;
  return set_xattrs(fd, NULL, false, meta) < 0 ? -1 : futimens(fd, times);
}

static int make_file(const char *path, const char *asked, const struct meta *meta, struct reader *data) {
  if (open_file(path, asked, meta->mode & 0777) < 0) return -1;
  int result = write_all(T.file, data->at, left(data));
  return end_file(result == 0 ? set_new_meta(T.file, meta) : result);
}

static int make_symlink(const char *path, const char *target, const struct meta *meta) {
  for (int attempt = 0; symlink(target, path) < 0; attempt++)
    if (!cleared(path, attempt)) return -1;
  return set_meta(path, meta);
}

static int make_link(const char *path, const char *existing) {
  for (int attempt = 0; link(existing, path) < 0; attempt++) {
    struct stat a, b;
    if (errno == EEXIST) {
      if (lstat(existing, &a) < 0 || lstat(path, &b) < 0) return -1;
      if (a.st_dev == b.st_dev && a.st_ino == b.st_ino) return 0;
      errno = EEXIST;
    } else if (errno == ENOENT && lstat(existing, &a) < 0) {
      return -1; /* it is the original that is missing */
    }
    if (!cleared(path, attempt)) return -1;
  }
  return 0;
}

static int make_node(const char *path, uint8_t type, uint32_t major, uint32_t minor, const struct meta *meta) {
  static const mode_t types[] = {0, S_IFCHR, S_IFBLK, S_IFIFO};
  if (type < 1 || type > 3) return errno = EBADMSG, -1;
  for (int attempt = 0; mknod(path, types[type] | 0600, type == 3 ? 0 : makedev(major, minor)) < 0; attempt++)
    if (!cleared(path, attempt)) return -1;
  return set_meta(path, meta);
}

static int move_entry(const char *from, const char *to) {
  if (rename(from, to) == 0) return 0;
  struct stat st;
  if (errno != ENOENT || lstat(from, &st) < 0 || make_parents(to) < 0) return -1;
  return rename(from, to);
}

/* LINK and RENAME, guarded: each path has a directory of its own. */
static int change_pair(uint8_t op, struct reader *r, const char *path) {
  const char *other;
  int at = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return -1;
  int result = take_path(r, &other) || finished(r)  ? -1
               : op == T_LINK ? linkat(AT_FDCWD, other, at, path, 0)
                              : renameat(at, path, AT_FDCWD, other);
  int saved = errno;
  close(at);
  return errno = saved, result;
}

/* Makes a directory where nothing is; what is there stays as it is. */
static int ensure_dir(const char *path, const struct meta *meta) {
  if (mkdir(path, 0700) == 0) return set_dir_meta(path, meta);
  return errno == EEXIST ? 0 : -1;
}

/* Fails when a directory is where none may be, or something else where only a directory may. */
static int expect(const char *path, bool directory) {
  struct stat st;
  if (lstat(path, &st) < 0) return errno == ENOENT ? 0 : -1;
  if (S_ISDIR(st.st_mode) == directory) return 0;
  return errno = directory ? ENOTDIR : EISDIR, -1;
}

/* Performs one change; *path names it in an error. */
static int change(uint8_t op, struct reader *r, const char **path) {
  struct meta meta;
  const char *name, *other;
  struct str text;
  struct bytes value;
  uint64_t number;
  uint32_t major, minor;
  uint8_t type;
  *path = T.file >= 0 ? T.file_path : "";
  if (op == T_DATA) return append(r);
  if (op == T_SKIP) return read_u64(r, &number) || finished(r) ? (errno = EBADMSG, -1) : skip(number);
  if (op == T_CLOSE) return take_meta(r, &meta) || finished(r) ? -1 : close_file(&meta);
  struct reader copy = *r;
  *path = read_str(&copy, &text) == 0 ? text.p : "";
  if (take_path(r, &name)) return -1;
  if (T.guarded && (op == T_LINK || op == T_RENAME)) return change_pair(op, r, name);
  switch (op) {
    case T_MKDIR:
      return take_meta(r, &meta) || finished(r) ? -1 : make_dir(name, &meta);
    case T_ENSURE:
      return take_meta(r, &meta) || finished(r) ? -1 : ensure_dir(name, &meta);
    case T_EXPECT:
      return read_u8(r, &type) || finished(r) ? (errno = EBADMSG, -1) : expect(name, type);
    case T_OPEN:
      return read_u64(r, &number) || finished(r) ? (errno = EBADMSG, -1) : open_file(name, *path, 0600);
    case T_FILE:
      return take_meta(r, &meta) ? -1 : make_file(name, *path, &meta, r);
    case T_SYMLINK:
      return read_str(r, &text) ? (errno = EBADMSG, -1) : take_meta(r, &meta) || finished(r) ? -1 : make_symlink(name, text.p, &meta);
    case T_LINK:
      return take_path(r, &other) || finished(r) ? -1 : make_link(name, other);
    case T_MKNOD:
      if (read_u8(r, &type) || read_u32(r, &major) || read_u32(r, &minor)) return errno = EBADMSG, -1;
      return take_meta(r, &meta) || finished(r) ? -1 : make_node(name, type, major, minor, &meta);
    case T_META:
      return take_meta(r, &meta) || finished(r) ? -1 : set_meta(name, &meta);
    case T_DIRMETA:
      if (take_meta(r, &meta) || finished(r)) return -1;
      if (set_dir_meta(name, &meta) == 0 || errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return 0;
      return -1;
    case T_XATTR:
      if (read_str(r, &text) || read_bytes(r, &value) || finished(r)) return errno = EBADMSG, -1;
      return lsetxattr(name, text.p, value.p, value.n, 0);
    case T_REMOVE:
      return finished(r) ? -1 : remove_tree(name);
    case T_RENAME:
      return take_path(r, &other) || finished(r) ? -1 : move_entry(name, other);
    default:
      return errno = ENOSYS, -1;
  }
}

static void take_change(uint8_t op, uint32_t id, struct reader *r) {
  const char *path;
  if (T.failed_errno != 0 || change(op, r, &path) == 0) return;
  T.failed_errno = errno;
  T.failed_op = op;
  T.failed_id = id;
  snprintf(T.failed_path, sizeof T.failed_path, "%s", path);
  drop_file();
  send_error(id, op, T.failed_errno, T.failed_path);
}

/* --- questions */

static void answer_flush(uint32_t id, bool sync) {
  if (T.failed_errno == 0 && sync && syncfs(T.root) < 0) send_error(id, T_SYNC, errno, "");
  else if (T.failed_errno == 0) send_plain(T_OK, id);
  else send_error(id, T.failed_op, T.failed_errno, T.failed_path);
  T.failed_errno = 0;
}

static int describe(const char *path) {
  bool descend;
  if (!T.guarded) return answer_named(&T.out, T.root, path, strcmp(path, ".") ? path : "", false, &descend);
  int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = answer_opened(&T.out, fd, T.fds, strcmp(path, ".") ? path : "", false, &descend), saved = errno;
  close(fd);
  return errno = saved, result;
}

static void answer_lstat(uint32_t id, struct reader *r) {
  const char *path = "";
  begin_answer();
  if (take_path(r, &path) == 0 && describe(path) == 0) send_answer(T_DATA_OUT, id);
  else if (errno == ENOENT || errno == ENOTDIR) send_plain(T_MISSING, id);
  else send_error(id, T_LSTAT, errno, path);
}

/* A number that the engine gave to a walk or a read. */
static int take_number(struct reader *r, uint32_t *number) {
  return read_u32(r, number) || *number >= MAX_OPEN ? (errno = EBADMSG, -1) : 0;
}

static void answer_walk(uint32_t id, uint8_t op, struct reader *r) {
  uint32_t number;
  const char *path = "";
  char asked[TREE_PATH] = ""; /* the walk's entries are told under the path that was asked for */
  struct reader copy = *r;
  struct str whole;
  bool begins = op == T_WALK || op == T_LIST;
  if (begins && read_u32(&copy, &number) == 0 && read_str(&copy, &whole) == 0 && whole.n < sizeof asked) strcpy(asked, whole.p);
  if (take_number(r, &number) || (begins && take_path(r, &path))) {
    send_error(id, op, errno, path);
    return;
  }
  struct walk **walk = &T.walks[number];
  if (op != T_WALK_NEXT && *walk) {
    walk_close(*walk);
    *walk = NULL;
  }
  if (op == T_WALK_END) {
    send_plain(T_OK, id);
    return;
  }
  if (begins) *walk = walk_open(asked, T.guarded ? path : asked, op == T_LIST, T.guarded ? T.fds : -1);
  begin_answer();
  answer_u8(&T.out, 0);
  int result = *walk ? walk_next(*walk, &T.out) : (errno = EBADF, -1);
  if (result == 0) {
    send_answer(T_DATA_OUT, id);
    return;
  }
  int saved = errno;
  if (*walk) walk_close(*walk);
  *walk = NULL;
  if (result < 0) {
    send_error(id, op, saved, path);
    return;
  }
  T.out.data[FRAME_HEAD] = 1; /* that was all */
  send_answer(T_DATA_OUT, id);
}

/* Opens a regular file; nothing else, because opening a device may act, and one may have taken the file's place. */
static int open_regular(const char *path) {
  struct stat st;
  /* O_NONBLOCK: a FIFO or a device must not hold us. */
  int fd = open(path, (T.guarded ? O_PATH : O_RDONLY | O_NONBLOCK | O_NOCTTY) | O_NOFOLLOW | O_CLOEXEC), result = fd;
  if (fd < 0) return -1;
  if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
    errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
    result = -1;
  } else if (T.guarded) {
    char self[24];
    *put_decimal(self, (uint64_t)fd) = 0;
    result = openat(T.fds, self, O_RDONLY | O_CLOEXEC);
  }
  int saved = errno;
  if (result != fd) close(fd);
  return errno = saved, result;
}

static void answer_read(uint32_t id, uint8_t op, struct reader *r) {
  uint32_t number;
  const char *path = "";
  if (take_number(r, &number) || (op == T_READ && take_path(r, &path))) {
    send_error(id, op, errno, path);
    return;
  }
  int *fd = &T.reads[number];
  if (op != T_READ_NEXT && *fd >= 0) {
    close(*fd);
    *fd = -1;
  }
  if (op == T_READ_END) {
    send_plain(T_OK, id);
    return;
  }
  if (op == T_READ) *fd = open_regular(path);
  else if (*fd < 0) errno = EBADF;
  begin_answer();
  answer_u8(&T.out, 0);
  bool descend;
  ssize_t n = -1;
  size_t most = 0;
  /* What the file is and what it holds come from one descriptor: the path may lead elsewhere the next moment. */
  if (*fd >= 0 && (op != T_READ || answer_opened(&T.out, *fd, -1, path, false, &descend) == 0)) {
    most = TREE_OUT - T.out.n;
    if (most > 2 * TREE_BATCH) most = 2 * TREE_BATCH;
    n = read_full(*fd, T.out.data + T.out.n, most);
  }
  if (n < 0) {
    int saved = errno;
    if (*fd >= 0) close(*fd);
    *fd = -1;
    send_error(id, op, saved, path);
    return;
  }
  bool end = (size_t)n < most;
  T.out.data[FRAME_HEAD] = end;
  T.out.n += (size_t)n;
  if (end) {
    close(*fd);
    *fd = -1;
  }
  send_answer(T_DATA_OUT, id);
}

static void take_frame(uint8_t op, uint32_t id, struct reader r) {
  switch (op) {
    case T_FLUSH:
    case T_SYNC:
      answer_flush(id, op == T_SYNC);
      break;
    case T_LSTAT:
      answer_lstat(id, &r);
      break;
    case T_WALK:
    case T_LIST:
    case T_WALK_NEXT:
    case T_WALK_END:
      answer_walk(id, op, &r);
      break;
    case T_READ:
    case T_READ_NEXT:
    case T_READ_END:
      answer_read(id, op, &r);
      break;
    default:
      take_change(op, id, &r);
      break;
  }
  /* Looking at names moves the working directory; reading does where a path has to be entered. */
  bool reads = op == T_READ || op == T_READ_NEXT || op == T_READ_END;
  if (op >= T_LSTAT && (T.guarded || !reads) && fchdir(T.root) < 0) _exit(1);
}

/* --- the process */

static void serve(void) {
  for (;;) {
    while (T.end - T.start >= FRAME_HEAD) {
      uint8_t *frame = T.in + T.start;
      uint32_t length = get_u32(frame);
      if (length < 5 || length > TREE_FRAME - 4) _exit(1);
      if (T.end - T.start < length + 4) break;
      T.start += length + 4;
      take_frame(frame[4], get_u32(frame + 5), (struct reader){frame + FRAME_HEAD, frame + 4 + length});
    }
    if (T.start == T.end) T.start = T.end = 0;
    if (TREE_FRAME - T.start < TREE_FRAME / 2) {
      memmove(T.in, T.in + T.start, T.end - T.start);
      T.end -= T.start;
      T.start = 0;
    }
    flush_answers();
    ssize_t n = recv(T.socket, T.in + T.end, TREE_FRAME - T.end, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    T.end += (size_t)n;
  }
}

static void tell(uint32_t id, uint8_t type, uint32_t step, int error) {
  uint8_t frame[FRAME_HEAD + 8];
  size_t n = type == F_FAILED ? 8 : 4;
  put_head(frame, type, id, n);
  put_u32(frame + FRAME_HEAD, step);
  put_u32(frame + FRAME_HEAD + 4, (uint32_t)error);
  send(RELAY, frame, FRAME_HEAD + n, MSG_NOSIGNAL);
}

/* The engine's socket. It is opened before a plan may leave the mount namespace in which its path means something, and removed by its directory's
 * descriptor. */
struct door {
  int listener, directory;
  const char *name;
};

static int open_door(struct door *door, const char *socket_path) {
  char directory[TREE_PATH];
  const char *slash = strrchr(socket_path, '/');
  if (!slash || slash == socket_path || slash - socket_path >= TREE_PATH) return errno = EINVAL, -1;
  memcpy(directory, socket_path, (size_t)(slash - socket_path));
  directory[slash - socket_path] = 0;
  door->name = slash + 1;
  door->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  return door->directory < 0 ? -1 : (door->listener = listen_at(socket_path)) < 0 ? -1 : 0;
}

static void close_door(struct door *door) {
  if (door->listener >= 0) unlinkat(door->directory, door->name, 0);
  close(door->listener);
  close(door->directory);
}

/* Takes the engine's one connection. The socket's name is gone before the tree is touched. Where the helper has ended, nobody comes any more. */
static int accept_engine(struct door *door) {
  int fd = -1;
  for (;;) {
    struct pollfd fds[2] = {{door->listener, POLLIN, 0}, {RELAY, 0, 0}};
    int ready = poll(fds, 2, ACCEPT_MS);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || (fds[0].revents == 0 && fds[1].revents != 0)) break;
    fd = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0 && peer_is_trusted(fd, NULL)) break;
    if (fd >= 0) close(fd);
    fd = -1;
  }
  close_door(door);
  if (fd < 0) _exit(1);
  return fd;
}

/* Performs the plan; the root is in slot 0 then. -1 with errno, *step = the one that failed. */
static int open_planned(uint32_t id, struct reader plan, uint32_t *step) {
  struct plan_facts facts;
  struct run run = {.relay = RELAY, .id = id, .ctl = -1, .child_pidfd = -1, .held_ns = -1, .child_step = NO_STEP, .rest = plan};
  run.streams.in = run.streams.out = run.streams.err = -1;
  if (plan_check(plan, &facts) || facts.clones || read_u32(&run.rest, &run.total)) return errno = EBADMSG, -1;
  signal(SIGCHLD, SIG_DFL);
  T.guarded = true;
  if (run_steps(&run) < 0) return *step = run.index, -1;
  int fd = openat(PLAN_ROOT, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), saved = errno;
  sys_close_range(SLOT_BASE, SLOT_BASE + MAX_SLOTS - 1, 0);
  return errno = saved, fd;
}

_Noreturn void tree_main(uint32_t id, const char *root, const char *socket_path, struct reader plan) {
  umask(0);
  set_title("wherry-tree", root);
  T.file = -1;
  for (int i = 0; i < MAX_OPEN; i++) T.reads[i] = -1;
  T.in = mmap(NULL, TREE_FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  T.answers = mmap(NULL, 2 * TREE_OUT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t step = UINT32_MAX;
  struct door door = {-1, -1, NULL};
  T.fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (T.in == MAP_FAILED || T.answers == MAP_FAILED || T.fds < 0 || open_door(&door, socket_path) < 0 ||
      (T.root = left(&plan) > 0 ? open_planned(id, plan, &step) : open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
    int saved = errno;
    close_door(&door);
    tell(id, F_FAILED, step, saved);
    _exit(1);
  }
  tell(id, F_DONE, (uint32_t)getpid(), 0);
  T.socket = accept_engine(&door);
  if (fchdir(T.root) < 0 || chroot(".") < 0) _exit(1);
  close(RELAY);
  serve();
  _exit(0);
}
