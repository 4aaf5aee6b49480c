#include "union.h"

#include <sys/sendfile.h>
#include <sys/sysmacros.h>

int make_whiteout(const char *path) { return go(UPPER) < 0 ? -1 : mknod(path, S_IFCHR, makedev(0, 0)); }

int set_opaque(int dir, const char *name) {
  if (fchdir(dir) < 0) return -1;
  B.at = -1;
  return lsetxattr(name, OPAQUE_XATTR, "y", 1, 0);
}

const char *work_name(char *buffer) {
  static unsigned counter;
  sprintf(buffer, "union-%x", ++counter);
  return buffer;
}

/* All but the union's own; both paths are taken as they are. `source` and `target`: the directories that they lie in. */
static int copy_xattrs(int source, const char *from, int target, const char *to) {
  char names[65536], value[65536];
  if (fchdir(source) < 0) return -1;
  B.at = -1;
  ssize_t all = llistxattr(from, names, sizeof names);
  if (all < 0) return errno == EOPNOTSUPP ? 0 : -1;
  for (char *name = names; name < names + all; name += strlen(name) + 1) {
    if (strncmp(name, OVERLAY_XATTR, sizeof OVERLAY_XATTR - 1) == 0) continue;
    if (fchdir(source) < 0) return -1;
    ssize_t n = lgetxattr(from, name, value, sizeof value);
    if (n < 0 && errno == ENODATA) continue;
    if (n < 0 || fchdir(target) < 0 || (lsetxattr(to, name, value, (size_t)n, 0) < 0 && errno != EOPNOTSUPP)) return -1;
  }
  return 0;
}

static int copy_meta(const struct stat *st, int target, const char *to) {
  struct timespec times[2] = {st->st_atim, st->st_mtim};
  if (fchownat(target, to, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  if (!S_ISLNK(st->st_mode) && fchmodat(target, to, st->st_mode & 07777, 0) < 0) return -1;
  return utimensat(target, to, times, AT_SYMLINK_NOFOLLOW);
}

int ensure_upper(struct node *directory) {
  char buffer[UNION_PATH], parent_buffer[UNION_PATH];
  struct stat st, above;
  if (directory->in_upper) return 0;
  if (!B.writable) return errno = EROFS, -1;
  const char *path = path_of(directory, buffer);
  if (!path || directory == &root_node) return -1;
  struct node *parent = directory->names->parent;
  if (ensure_upper(parent) < 0 || stat_node(directory, &st) < 0) return -1;
  const char *parent_path = path_of(parent, parent_buffer);
  int lower = B.fd[directory->lowers[0]], upper = B.fd[UPPER];
  if (!parent_path || fstatat(upper, parent_path, &above, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  if (mkdirat(upper, path, 0700) < 0 && errno != EEXIST) return -1;
  if (copy_xattrs(lower, path, upper, path) < 0 || copy_meta(&st, upper, path) < 0) return -1;
  struct timespec times[2] = {above.st_atim, above.st_mtim};
  utimensat(upper, parent_path, times, AT_SYMLINK_NOFOLLOW);
  directory->in_upper = true;
  return 0;
}

static int copy_data(int from, int to, off_t size) {
  for (off_t at = 0; at < size;) {
    off_t data = lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    off_t hole = data < 0 ? size : lseek(from, data, SEEK_HOLE);
    if (data < 0) data = at;
    if (hole < 0) hole = size;
    if (lseek(from, data, SEEK_SET) < 0 || lseek(to, data, SEEK_SET) < 0) return -1;
    for (at = data; at < hole;) {
      ssize_t n = sendfile(to, from, NULL, (size_t)(hole - at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return -1;
      if (n == 0) return ftruncate(to, size);
      at += n;
    }
  }
  return ftruncate(to, size);
}

static int make_copy(int lower, const char *path, const struct stat *st, const char *name) {
  char target[UNION_PATH];
  if (S_ISLNK(st->st_mode)) {
    ssize_t n = readlinkat(lower, path, target, sizeof target - 1);
    return n < 0 ? -1 : (target[n] = 0, symlinkat(target, B.work, name));
  }
  if (!S_ISREG(st->st_mode)) return mknodat(B.work, name, st->st_mode & S_IFMT, st->st_rdev);
  int from = openat(lower, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), to = from < 0 ? -1 : openat(B.work, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int result = to < 0 ? -1 : copy_data(from, to, st->st_size), saved = errno;
  if (from >= 0) close(from);
  if (to >= 0) close(to);
  return errno = saved, result;
}

int copy_up(struct node *node) {
  char buffer[UNION_PATH], parent_buffer[UNION_PATH], name[32];
  struct stat st, above;
  if (S_ISDIR(node->type)) return ensure_upper(node);
  if (!B.writable) return errno = EROFS, -1;
  if (node->branch == UPPER || !node->names) return 0;
  const char *path = path_of(node, buffer);
  struct node *parent = node->names->parent;
  if (!path || stat_node(node, &st) < 0 || ensure_upper(parent) < 0) return -1;
  const char *parent_path = path_of(parent, parent_buffer);
  int lower = B.fd[node->branch], upper = B.fd[UPPER];
  work_name(name);
  if (!parent_path || fstatat(upper, parent_path, &above, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  if (make_copy(lower, path, &st, name) < 0 || copy_xattrs(lower, path, B.work, name) < 0 || copy_meta(&st, B.work, name) < 0) goto failed;
  uint64_t ino = node->ino;
  if (fchdir(B.work) == 0) {
    B.at = -1;
    /* Not on every kind of file; then the number changes when all have forgotten it. */
    lsetxattr(name, INODE_XATTR, &ino, sizeof ino, 0);
  }
  if (renameat(B.work, name, upper, path) < 0) goto failed;
  struct timespec times[2] = {above.st_atim, above.st_mtim};
  utimensat(upper, parent_path, times, AT_SYMLINK_NOFOLLOW);
  node->branch = UPPER;
  if (fstatat(upper, path, &st, AT_SYMLINK_NOFOLLOW) == 0) remember_link(node, &st);
  /* Who has it open sees what is written from now on. */
  for (struct handle *h = node->handles; h; h = h->next) {
    int fd = h->fd < 0 ? -1 : openat(upper, path, (h->flags & O_ACCMODE) | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
      dup3(fd, h->fd, O_CLOEXEC);
      close(fd);
    }
  }
  return 0;
failed: {
  int saved = errno;
  unlinkat(B.work, name, 0);
  return errno = saved, -1;
}
}
