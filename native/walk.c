/* Describes entries of a tree: lstat with xattrs and symlink targets, and a pre-order walk in byte order. */
#include "tree.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

/* --- answers */

static uint8_t *room(struct answer *a, size_t n) {
  if (a->full || n > TREE_OUT - a->n) {
    a->full = true;
    return NULL;
  }
  uint8_t *p = a->data + a->n;
  a->n += n;
  return p;
}
void answer_u8(struct answer *a, uint8_t v) {
  uint8_t *p = room(a, 1);
  if (p) *p = v;
}
void answer_u32(struct answer *a, uint32_t v) {
  uint8_t *p = room(a, 4);
  if (p) put_u32(p, v);
}
void answer_u64(struct answer *a, uint64_t v) {
  uint8_t *p = room(a, 8);
  if (p) put_u64(p, v);
}
void answer_bytes(struct answer *a, const void *data, size_t n) {
  answer_u32(a, (uint32_t)n);
  uint8_t *p = room(a, n);
  if (p && n > 0) memcpy(p, data, n);
}

/* --- one entry */

enum { XATTR_NAMES = 64 << 10 };

static uint8_t type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 1;
    case S_IFDIR:
      return 2;
    case S_IFLNK:
      return 3;
    case S_IFCHR:
      return 4;
    case S_IFBLK:
      return 5;
    case S_IFIFO:
      return 6;
    default:
      return 7;
  }
}

/* Whose xattrs are meant: what `fd` is open for reading on (-1: no descriptor), or `name` in the working directory, or what a link there leads to (`follow`). */
struct xattr_of {
  int fd;
  const char *name;
  bool follow;
};
static ssize_t list_xattrs(struct xattr_of of, char *names, size_t size) {
  return of.fd >= 0 ? flistxattr(of.fd, names, size) : of.follow ? listxattr(of.name, names, size) : llistxattr(of.name, names, size);
}
static ssize_t get_xattr(struct xattr_of of, const char *xattr, char *value, size_t size) {
  return of.fd >= 0 ? fgetxattr(of.fd, xattr, value, size) : of.follow ? getxattr(of.name, xattr, value, size) : lgetxattr(of.name, xattr, value, size);
}

/* Appends count, then name and value of each. */
static int answer_xattrs(struct answer *a, struct xattr_of of) {
  static char names[XATTR_NAMES], value[XATTR_NAMES];
  size_t count_at = a->n;
  uint32_t count = 0;
  answer_u32(a, 0);
  ssize_t n = list_xattrs(of, names, sizeof names);
  if (n < 0 && errno != ENOTSUP) return -1;
  for (const char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
    ssize_t length = get_xattr(of, p, value, sizeof value);
    if (length < 0 && errno == ENODATA) continue; /* listed, but not for us (or just removed) */
    if (length < 0) return -1;
    answer_bytes(a, p, strlen(p));
    answer_bytes(a, value, (size_t)length);
    count++;
  }
  if (!a->full) put_u32(a->data + count_at, count);
  return 0;
}

static uint64_t ns(const struct statx_timestamp *t) { return (uint64_t)t->tv_sec * 1000000000u + t->tv_nsec; }

static void answer_stat(struct answer *a, const struct statx *st, bool with_blocks, const char *path, const char *target, size_t target_length) {
  answer_u8(a, type_of(st->stx_mode));
  answer_u32(a, st->stx_mode & 07777);
  answer_u32(a, st->stx_uid);
  answer_u32(a, st->stx_gid);
  answer_u64(a, st->stx_size);
  answer_u64(a, ns(&st->stx_mtime));
  answer_u64(a, ns(&st->stx_ctime));
  answer_u64(a, st->stx_ino);
  answer_u64(a, makedev(st->stx_dev_major, st->stx_dev_minor));
  answer_u32(a, st->stx_nlink);
  answer_u32(a, st->stx_rdev_major);
  answer_u32(a, st->stx_rdev_minor);
  answer_u64(a, with_blocks ? st->stx_blocks : 0);
  answer_bytes(a, path, strlen(path));
  answer_bytes(a, target, target_length);
}

int answer_named(struct answer *a, int dir, const char *name, const char *path, bool brief, bool *descend) {
  struct statx st;
  char target[TREE_PATH];
  ssize_t target_length = 0;
  if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) < 0) return -1;
  if (S_ISLNK(st.stx_mode) && (target_length = readlinkat(dir, name, target, sizeof target)) < 0) return -1;
  *descend = S_ISDIR(st.stx_mode) && !(st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
  answer_stat(a, &st, !brief, path, target, (size_t)target_length);
  if (brief) answer_u32(a, 0);
  /* lgetxattr(2) knows no directory descriptor. */
  else if (fchdir(dir) < 0 || answer_xattrs(a, (struct xattr_of){-1, name, false}) < 0) return -1;
  return a->full ? (errno = E2BIG, -1) : 0;
}

int answer_opened(struct answer *a, int fd, int fds, const char *path, bool brief, bool *descend) {
  struct statx st;
  char target[TREE_PATH], self[24];
  ssize_t target_length = 0;
  if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0) return -1;
  if (S_ISLNK(st.stx_mode) && (target_length = readlinkat(fd, "", target, sizeof target)) < 0) return -1;
  *descend = S_ISDIR(st.stx_mode);
  answer_stat(a, &st, !brief, path, target, (size_t)target_length);
  *put_decimal(self, (uint64_t)fd) = 0;
  if (brief) answer_u32(a, 0);
  else if (fds >= 0 && fchdir(fds) < 0) return -1;
  /* fgetxattr(2) takes no O_PATH descriptor. */
  else if (answer_xattrs(a, fds < 0 ? (struct xattr_of){fd, NULL, false} : (struct xattr_of){-1, self, true}) < 0) return -1;
  return a->full ? (errno = E2BIG, -1) : 0;
}

/* --- the walk */

struct level {
  int fd;
  char *names;      /* NUL-terminated, one after the other */
  uint32_t *sorted; /* offsets into names */
  size_t count, at;
  size_t path_length; /* of this directory */
};
struct walk {
  struct level *levels;
  size_t depth, capacity;
  bool started;
  bool list; /* only what is in the first directory, in brief */
  int fds; /* -1 = not guarded */
  char path[TREE_PATH], name[TREE_PATH];
};

static __thread const char *sorting;
static int by_bytes(const void *a, const void *b) { return strcmp(sorting + *(const uint32_t *)a, sorting + *(const uint32_t *)b); }

static int read_names(struct level *level) {
  size_t used = 0, capacity = 0, slots = 0;
  DIR *dir = NULL;
  int copy = fcntl(level->fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0 || !(dir = fdopendir(copy))) {
    if (copy >= 0) close(copy);
    return -1;
  }
  struct dirent *entry;
  while ((errno = 0, entry = readdir(dir))) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    size_t n = strlen(entry->d_name) + 1;
    if (used + n > capacity) {
      capacity = capacity ? 2 * capacity : 4096;
      char *bigger = realloc(level->names, capacity);
      if (!bigger) break;
      level->names = bigger;
    }
    if (level->count == slots) {
      slots = slots ? 2 * slots : 128;
      uint32_t *bigger = realloc(level->sorted, slots * sizeof *bigger);
      if (!bigger) break;
      level->sorted = bigger;
    }
    memcpy(level->names + used, entry->d_name, n);
    level->sorted[level->count++] = (uint32_t)used;
    used += n;
  }
  int saved = errno;
  closedir(dir);
  sorting = level->names;
  if (level->count > 0) qsort(level->sorted, level->count, sizeof *level->sorted, by_bytes);
  return errno = saved, saved == 0 ? 0 : -1;
}

static void pop(struct walk *walk) {
  struct level *level = &walk->levels[--walk->depth];
  close(level->fd);
  free(level->names);
  free(level->sorted);
}

static int push(struct walk *walk, int at, const char *name) {
  if (walk->depth == walk->capacity) {
    size_t capacity = walk->capacity ? 2 * walk->capacity : 16;
    struct level *bigger = realloc(walk->levels, capacity * sizeof *bigger);
    if (!bigger) return -1;
    walk->levels = bigger;
    walk->capacity = capacity;
  }
  struct level *level = &walk->levels[walk->depth];
  *level = (struct level){.fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME), .path_length = strlen(walk->path)};
  if (level->fd < 0 && errno == EPERM) level->fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (level->fd < 0) return -1;
  if (walk->fds >= 0 && is_kernel_filesystem(level->fd)) return close(level->fd), 0;
  walk->depth++;
  return read_names(level);
}

struct walk *walk_open(const char *path, const char *name, bool list, int fds) {
  struct walk *walk = calloc(1, sizeof *walk);
  if (!walk) return NULL;
  strcpy(walk->path, path);
  strcpy(walk->name, name);
  walk->list = list;
  walk->fds = fds;
  return walk;
}

bool is_kernel_filesystem(int fd) {
  /* statfs(2): proc sysfs cgroup cgroup2 devpts mqueue debugfs tracefs securityfs selinuxfs bpf binfmt_misc pstore efivarfs configfs fusectl nsfs */
  static const uint32_t magics[] = {0x9fa0,     0x62656572, 0x27e0eb,   0x63677270, 0x1cd1,     0x19800202, 0x64626720, 0x74726163, 0x73636673,
                                    0xf97cff8c, 0xcafe4a11, 0x42494e4d, 0x6165676c, 0xde5e81e4, 0x62656570, 0x65735543, 0x6e736673};
  struct statfs fs;
  if (fstatfs(fd, &fs) < 0) return false;
  for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
    if ((uint32_t)fs.f_type == magics[i]) return true;
  return false;
}

void walk_close(struct walk *walk) {
  while (walk->depth > 0) pop(walk);
  free(walk->levels);
  free(walk);
}

static int visit_named(struct walk *walk, struct answer *a, int dir, const char *name) {
  enum { DIRECTORY = 2 };
  bool descend;
  size_t before = a->n;
  if (answer_named(a, dir, name, walk->path, walk->list, &descend) < 0) return -1;
  /* What was asked for may itself be where something is mounted. */
  if (walk->depth == 0 && a->data[before] == DIRECTORY) descend = true;
  else if (walk->list) descend = false;
  return descend ? push(walk, dir, name) : 0;
}

/* Guarded: all that is told, and what is entered, is one object. A container's volumes belong to its tree. */
static int visit_opened(struct walk *walk, struct answer *a, int dir, const char *name) {
  bool descend;
  int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = answer_opened(a, fd, walk->fds, walk->path, walk->list, &descend);
  if (result == 0 && descend && !(walk->list && walk->depth > 0)) result = push(walk, fd, ".");
  int saved = errno;
  close(fd);
  return errno = saved, result;
}

static int visit(struct walk *walk, struct answer *a, int dir, const char *name, bool must_exist) {
  size_t before = a->n;
  if ((walk->fds >= 0 ? visit_opened : visit_named)(walk, a, dir, name) == 0) return 0;
  if (must_exist || errno != ENOENT) return -1;
  /* Removed while we walk. */
  a->n = before;
  a->full = false;
  return 0;
}

static int start(struct walk *walk, struct answer *a) {
  walk->started = true;
  int root = open(walk->fds >= 0 ? "." : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return -1;
  int result = visit(walk, a, root, walk->name[0] ? walk->name : ".", true);
  int saved = errno;
  close(root);
  errno = saved;
  return result;
}

int walk_next(struct walk *walk, struct answer *a) {
  if (!walk->started && start(walk, a) < 0) return -1;
  while (walk->depth > 0) {
    if (a->n > TREE_BATCH) return 0;
    struct level *level = &walk->levels[walk->depth - 1];
    walk->path[level->path_length] = 0;
    if (level->at == level->count) {
      pop(walk);
      continue;
    }
    const char *name = level->names + level->sorted[level->at++];
    size_t n = level->path_length, slash = n > 0 ? 1 : 0;
    if (n + slash + strlen(name) >= TREE_PATH) return errno = ENAMETOOLONG, -1;
    if (slash) walk->path[n] = '/';
    strcpy(walk->path + n + slash, name);
    if (visit(walk, a, level->fd, name, false) < 0) return -1;
  }
  return 1;
}
