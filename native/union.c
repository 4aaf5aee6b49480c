#include "union.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

enum { WRITE_MAX = 1 << 20, BUFFER = WRITE_MAX + 8192, PAGES_MAX = 256, KEEP_SECONDS = 60 };

static int device;
static uint8_t *data; /* for answers */

static struct node *node_at(uint64_t id) { return id == FUSE_ROOT_ID ? &root_node : (struct node *)(uintptr_t)id; }
static uint64_t id_of(const struct node *node) { return node == &root_node ? FUSE_ROOT_ID : (uint64_t)(uintptr_t)node; }
static struct handle *handle_at(uint64_t id) { return (struct handle *)(uintptr_t)id; }

static void answer(const struct fuse_in_header *in, int error, const void *payload, size_t n) {
  struct fuse_out_header head = {(uint32_t)(sizeof head + n), error, in->unique};
  struct iovec parts[2] = {{&head, sizeof head}, {(void *)payload, n}};
  /* ENOENT: the caller was interrupted meanwhile. */
  if (writev(device, parts, n > 0 ? 2 : 1) < 0 && errno == ENODEV) exit(0);
}
/* An operation without a result but success. */
static void finish(const struct fuse_in_header *in, int result) { answer(in, result < 0 ? -errno : 0, NULL, 0); }

static struct fuse_attr attr_of(const struct stat *st) {
  return (struct fuse_attr){.ino = st->st_ino,
                            .size = (uint64_t)st->st_size,
                            .blocks = (uint64_t)st->st_blocks,
                            .atime = (uint64_t)st->st_atim.tv_sec,
                            .mtime = (uint64_t)st->st_mtim.tv_sec,
                            .ctime = (uint64_t)st->st_ctim.tv_sec,
                            .atimensec = (uint32_t)st->st_atim.tv_nsec,
                            .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
                            .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
                            .mode = st->st_mode,
                            .nlink = (uint32_t)st->st_nlink,
                            .uid = st->st_uid,
                            .gid = st->st_gid,
                            /* linux/kdev_t.h, new_encode_dev */
                            .rdev = (minor(st->st_rdev) & 0xff) | (major(st->st_rdev) << 8) | ((minor(st->st_rdev) & ~0xffu) << 12),
                            .blksize = (uint32_t)st->st_blksize};
}

static struct fuse_entry_out entry_of(struct node *node, const struct stat *st) {
  node->lookups++;
  return (struct fuse_entry_out){.nodeid = id_of(node), .entry_valid = KEEP_SECONDS, .attr_valid = KEEP_SECONDS, .attr = attr_of(st)};
}

static void answer_attr(const struct fuse_in_header *in, struct node *node) {
  struct stat st;
  if (stat_node(node, &st) < 0) return finish(in, -1);
  struct fuse_attr_out out = {.attr_valid = KEEP_SECONDS, .attr = attr_of(&st)};
  answer(in, 0, &out, sizeof out);
}

static void do_lookup(const struct fuse_in_header *in, const char *name) {
  struct stat st;
  struct node *node = lookup_node(node_at(in->nodeid), name, &st);
  if (!node) return finish(in, -1);
  struct fuse_entry_out out = entry_of(node, &st);
  answer(in, 0, &out, sizeof out);
}

/* --- names */

/* What a new name replaces in the upper branch: nothing, or a whiteout. */
static bool whiteout_at(const char *path) {
  struct stat st;
  return fstatat(B.fd[UPPER], path, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(&st);
}

/* Whose a new file is: the caller's, or the group of a directory that gives its own on. */
static int own(const struct fuse_in_header *in, const char *name, const char *parent_path, bool directory, mode_t mode) {
  struct stat above;
  if (fstatat(B.fd[UPPER], parent_path, &above, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  bool inherits = above.st_mode & S_ISGID;
  if (fchownat(B.work, name, in->uid, inherits ? above.st_gid : in->gid, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  if (S_ISLNK(mode)) return 0;
  return fchmodat(B.work, name, (mode & 07777) | (directory && inherits ? S_ISGID : 0), 0);
}

/* Moves what was made in the work directory to its name, and answers with it. */
static struct node *place(struct node *parent, const char *name, const char *made, bool directory, struct stat *st) {
  char buffer[UNION_PATH];
  const char *path = path_in(parent, name, buffer);
  if (!path || (directory && lower_has(parent, name) && set_opaque(B.work, made) < 0)) return NULL;
  if (directory && whiteout_at(path) && unlinkat(B.fd[UPPER], path, 0) < 0) return NULL;
  if (renameat(B.work, made, B.fd[UPPER], path) < 0) return NULL;
  return lookup_node(parent, name, st);
}

static struct node *make(const struct fuse_in_header *in, const char *name, mode_t mode, uint32_t rdev, const char *target, struct stat *st) {
  char buffer[UNION_PATH], made[32];
  struct node *parent = node_at(in->nodeid);
  if (ensure_upper(parent) < 0) return NULL;
  const char *parent_path = path_of(parent, buffer);
  dev_t dev = makedev((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
  work_name(made);
  if (!parent_path || (S_ISCHR(mode) && dev == 0)) return errno = EPERM, NULL;
  int result = target ? symlinkat(target, B.work, made) : S_ISDIR(mode) ? mkdirat(B.work, made, 0700) : mknodat(B.work, made, mode, dev);
  if (result < 0) return NULL;
  struct node *node = own(in, made, parent_path, S_ISDIR(mode), mode) < 0 ? NULL : place(parent, name, made, S_ISDIR(mode), st);
  int saved = errno;
  if (!node) unlinkat(B.work, made, S_ISDIR(mode) ? AT_REMOVEDIR : 0);
  return errno = saved, node;
}

static void answer_made(const struct fuse_in_header *in, struct node *node, const struct stat *st) {
  if (!node) return finish(in, -1);
  struct fuse_entry_out out = entry_of(node, st);
  answer(in, 0, &out, sizeof out);
}

static void do_link(const struct fuse_in_header *in, const struct fuse_link_in *link, const char *name) {
  char buffer[UNION_PATH], from_buffer[UNION_PATH], made[32];
  struct node *parent = node_at(in->nodeid), *node = node_at(link->oldnodeid);
  struct stat st;
  if (copy_up(node) < 0 || ensure_upper(parent) < 0) return finish(in, -1);
  const char *path = path_in(parent, name, buffer), *from = path_of(node, from_buffer);
  work_name(made);
  if (!path || !from || linkat(B.fd[UPPER], from, B.work, made, 0) < 0) return finish(in, -1);
  if (renameat(B.work, made, B.fd[UPPER], path) < 0 || fstatat(B.fd[UPPER], path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
    int saved = errno;
    unlinkat(B.work, made, 0);
    return errno = saved, finish(in, -1);
  }
  remember_link(node, &st);
  st.st_ino = node->ino;
  if (!add_name(parent, name, node)) return errno = ENOMEM, finish(in, -1);
  answer_made(in, node, &st);
}

static void do_unlink(const struct fuse_in_header *in, const char *text) {
  char buffer[UNION_PATH], made[32];
  struct node *parent = node_at(in->nodeid);
  struct stat st;
  struct node *node = lookup_node(parent, text, &st);
  if (!node) return finish(in, -1);
  if (S_ISDIR(node->type)) return errno = EISDIR, finish(in, -1);
  if (ensure_upper(parent) < 0) return finish(in, -1);
  const char *path = path_in(parent, text, buffer);
  if (!path) return finish(in, -1);
  int result;
  if (!lower_has(parent, text)) {
    result = unlinkat(B.fd[UPPER], path, 0);
  } else if (node->branch != UPPER) {
    result = make_whiteout(path);
  } else {
    work_name(made);
    result = mknodat(B.work, made, S_IFCHR, 0) < 0 ? -1 : renameat(B.work, made, B.fd[UPPER], path);
  }
  if (result == 0) drop_name(find_name(parent, text));
  finish(in, result);
}

/* --- directories */

static bool add_entry(struct handle *h, const char *text, uint64_t ino, uint32_t type) {
  size_t length = strlen(text), size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
  if (h->used + size > h->capacity) {
    size_t capacity = 2 * h->capacity + 4096 + size;
    char *bigger = realloc(h->entries, capacity);
    if (!bigger) return false;
    h->entries = bigger;
    h->capacity = capacity;
  }
  struct fuse_dirent *entry = (struct fuse_dirent *)(h->entries + h->used);
  memset(entry, 0, size);
  h->used += size;
  *entry = (struct fuse_dirent){.ino = ino, .off = h->used, .namelen = (uint32_t)length, .type = type};
  memcpy(entry->name, text, length);
  return true;
}

/* Names that have been seen in a directory's upper branches. */
struct seen {
  struct seen *next;
  char text[];
};
static struct seen *seen[4096];

static bool see(const char *text) {
  uint32_t hash = 2166136261u;
  for (const char *p = text; *p; p++) hash = (hash ^ (uint8_t)*p) * 16777619u;
  struct seen **bucket = &seen[hash % (sizeof seen / sizeof *seen)];
  for (struct seen *s = *bucket; s; s = s->next)
    if (strcmp(s->text, text) == 0) return false;
  size_t length = strlen(text) + 1;
  struct seen *s = malloc(sizeof *s + length);
  if (!s) return false;
  memcpy(s->text, text, length);
  s->next = *bucket;
  *bucket = s;
  return true;
}

static void forget_seen(void) {
  for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
    for (struct seen *next; seen[i]; seen[i] = next) {
      next = seen[i]->next;
      free(seen[i]);
    }
}

/* All names of a directory into the handle, each once. */
static int read_directory(struct handle *h) {
  char buffer[UNION_PATH];
  struct node *node = h->node;
  const char *path = path_of(node, buffer);
  h->used = 0;
  if (!path) return errno == ENOENT ? 0 : -1;
  int count = node->n_lowers + node->in_upper;
  if (!add_entry(h, ".", node->ino, S_IFDIR >> 12) || !add_entry(h, "..", node->ino, S_IFDIR >> 12)) return errno = ENOMEM, -1;
  int result = 0;
  for (int i = 0; i < count && result == 0; i++) {
    int branch = node->in_upper ? (i == 0 ? UPPER : node->lowers[i - 1]) : node->lowers[i];
    int fd = openat(B.fd[branch], path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
      if (fd >= 0) close(fd);
      result = -1;
      break;
    }
    for (struct dirent *e; (errno = 0, e = readdir(dir));) {
      struct stat st;
      if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || !see(e->d_name)) continue;
      if (e->d_type == DT_CHR && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(&st)) continue;
      struct name *known = find_name(node, e->d_name);
      if (!add_entry(h, e->d_name, known ? known->node->ino : e->d_ino, e->d_type)) {
        errno = ENOMEM;
        break;
      }
    }
    if (errno != 0) result = -1;
    int saved = errno;
    closedir(dir);
    errno = saved;
  }
  int saved = errno;
  forget_seen();
  return errno = saved, result;
}

static bool is_empty(struct node *node) {
  struct handle h = {.node = node, .fd = -1};
  size_t dots = 2 * FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + 2);
  bool empty = read_directory(&h) == 0 && h.used <= dots;
  free(h.entries);
  return empty;
}

/* Takes an empty directory out of the upper branch, and the whiteouts that may be in it. */
static int remove_upper(const char *path) {
  char made[32];
  work_name(made);
  if (renameat(B.fd[UPPER], path, B.work, made) < 0) return -1;
  int fd = openat(B.work, made, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  for (struct dirent *e; dir && (e = readdir(dir));)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(dirfd(dir), e->d_name, 0);
  if (dir) closedir(dir);
  else if (fd >= 0) close(fd);
  return unlinkat(B.work, made, AT_REMOVEDIR);
}

static int remove_directory(struct node *parent, const char *text) {
  char buffer[UNION_PATH];
  struct stat st;
  struct node *node = lookup_node(parent, text, &st);
  if (!node) return -1;
  if (!S_ISDIR(node->type)) return errno = ENOTDIR, -1;
  if (!is_empty(node)) return errno = ENOTEMPTY, -1;
  if (ensure_upper(parent) < 0) return -1;
  const char *path = path_in(parent, text, buffer);
  if (!path || (node->in_upper && remove_upper(path) < 0)) return -1;
  if (lower_has(parent, text) && make_whiteout(path) < 0) return -1;
  drop_name(find_name(parent, text));
  return 0;
}

static void do_rename(const struct fuse_in_header *in, uint64_t newdir, uint32_t flags, const char *from, const char *to) {
  char from_buffer[UNION_PATH], to_buffer[UNION_PATH];
  struct node *old_parent = node_at(in->nodeid), *new_parent = node_at(newdir);
  struct stat st, other_st;
  struct node *node = lookup_node(old_parent, from, &st);
  if (!node) return finish(in, -1);
  struct node *other = lookup_node(new_parent, to, &other_st);
  if (!other && errno != ENOENT) return finish(in, -1);
  if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) return errno = EINVAL, finish(in, -1);
  if (other && (flags & RENAME_NOREPLACE)) return errno = EEXIST, finish(in, -1);
  if (!other && (flags & RENAME_EXCHANGE)) return errno = ENOENT, finish(in, -1);
  if (node == other) return finish(in, 0);
  bool directory = S_ISDIR(node->type);
  /* What lies in it below cannot be moved: mv(1) copies then. */
  if ((directory && node->n_lowers > 0) || ((flags & RENAME_EXCHANGE) && S_ISDIR(other->type) && other->n_lowers > 0)) return errno = EXDEV, finish(in, -1);
  if (copy_up(node) < 0 || ensure_upper(new_parent) < 0) return finish(in, -1);
  const char *old_path = path_in(old_parent, from, from_buffer), *new_path = path_in(new_parent, to, to_buffer);
  if (!old_path || !new_path) return finish(in, -1);
  int upper = B.fd[UPPER];
  if (flags & RENAME_EXCHANGE) {
    if (copy_up(other) < 0) return finish(in, -1);
    if (directory && lower_has(new_parent, to) && set_opaque(upper, old_path) < 0) return finish(in, -1);
    if (S_ISDIR(other->type) && lower_has(old_parent, from) && set_opaque(upper, new_path) < 0) return finish(in, -1);
    if (syscall(SYS_renameat2, upper, old_path, upper, new_path, RENAME_EXCHANGE) < 0) return finish(in, -1);
    drop_name(find_name(old_parent, from));
    drop_name(find_name(new_parent, to));
    bool good = add_name(old_parent, from, other) && add_name(new_parent, to, node);
    return errno = ENOMEM, finish(in, good ? 0 : -1);
  }
  if (other && directory && !S_ISDIR(other->type)) return errno = ENOTDIR, finish(in, -1);
  if (other && !directory && S_ISDIR(other->type)) return errno = EISDIR, finish(in, -1);
  if (other && directory && remove_directory(new_parent, to) < 0) return finish(in, -1);
  if (directory && lower_has(new_parent, to) && set_opaque(upper, old_path) < 0) return finish(in, -1);
  if (directory && whiteout_at(new_path) && unlinkat(upper, new_path, 0) < 0) return finish(in, -1);
  if (renameat(upper, old_path, upper, new_path) < 0) return finish(in, -1);
  if (lower_has(old_parent, from) && make_whiteout(old_path) < 0) return finish(in, -1);
  node->lookups++; /* between its names */
  drop_name(find_name(old_parent, from));
  struct name *replaced = find_name(new_parent, to);
  if (replaced) drop_name(replaced);
  bool good = add_name(new_parent, to, node);
  node->lookups--;
  errno = ENOMEM;
  finish(in, good ? 0 : -1);
}

/* --- files */

static struct handle *new_handle(struct node *node, int fd, int flags) {
  struct handle *h = calloc(1, sizeof *h);
  if (!h) return NULL;
  *h = (struct handle){.fd = fd, .flags = flags, .node = node, .next = node->handles};
  node->handles = h;
  return h;
}

static struct handle *open_file(struct node *node, uint32_t flags) {
  char buffer[UNION_PATH];
  bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
  if (writes && copy_up(node) < 0) return NULL;
  const char *path = path_of(node, buffer);
  if (!path) return NULL;
  /* Read through the kernel's cache, a page may be read for what is only open to be written. */
  int mode = writes ? O_RDWR : O_RDONLY;
  int fd = openat(B.fd[node->branch], path, mode | (int)(flags & O_TRUNC) | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return NULL;
  struct handle *h = new_handle(node, fd, mode);
  if (!h) close(fd);
  return h;
}

static void answer_open(const struct fuse_in_header *in, struct handle *h) {
  if (!h) return finish(in, -1);
  struct fuse_open_out out = {.fh = (uint64_t)(uintptr_t)h, .open_flags = h->fd >= 0 ? FOPEN_KEEP_CACHE : 0};
  answer(in, 0, &out, sizeof out);
}

static void do_create(const struct fuse_in_header *in, const struct fuse_create_in *create, const char *name) {
  struct stat st;
  struct node *node = make(in, name, (create->mode & 07777) | S_IFREG, 0, NULL, &st);
  if (!node) return finish(in, -1);
  struct {
    struct fuse_entry_out entry;
    struct fuse_open_out open;
  } out = {.entry = entry_of(node, &st)};
  struct handle *h = open_file(node, create->flags);
  if (!h) return forget_node(node, 1), finish(in, -1);
  out.open = (struct fuse_open_out){.fh = (uint64_t)(uintptr_t)h, .open_flags = FOPEN_KEEP_CACHE};
  answer(in, 0, &out, sizeof out);
}

static void do_release(const struct fuse_in_header *in, uint64_t fh) {
  struct handle *h = handle_at(fh);
  struct node *node = h->node;
  for (struct handle **at = &node->handles; *at; at = &(*at)->next)
    if (*at == h) {
      *at = h->next;
      break;
    }
  if (h->fd >= 0) close(h->fd);
  free(h->entries);
  free(h);
  forget_node(node, 0);
  finish(in, 0);
}

static void do_setattr(const struct fuse_in_header *in, const struct fuse_setattr_in *set) {
  char buffer[UNION_PATH], magic[40];
  struct node *node = node_at(in->nodeid);
  if (copy_up(node) < 0) return finish(in, -1);
  const char *path = path_of(node, buffer);
  if (!path) {
    /* Unlinked, but open. */
    struct handle *h = node->handles;
    if (!h || h->fd < 0) return errno = ENOENT, finish(in, -1);
    sprintf(magic, "/proc/self/fd/%d", h->fd);
    path = magic;
  } else if (go(UPPER) < 0) {
    return finish(in, -1);
  }
  int follow = path == magic ? 0 : AT_SYMLINK_NOFOLLOW;
  uid_t uid = set->valid & FATTR_UID ? set->uid : (uid_t)-1;
  gid_t gid = set->valid & FATTR_GID ? set->gid : (gid_t)-1;
  if ((set->valid & (FATTR_UID | FATTR_GID)) && fchownat(AT_FDCWD, path, uid, gid, follow) < 0) return finish(in, -1);
  if ((set->valid & FATTR_MODE) && chmod(path, set->mode & 07777) < 0) return finish(in, -1);
  if ((set->valid & FATTR_SIZE) && truncate(path, (off_t)set->size) < 0) return finish(in, -1);
  if (set->valid & (FATTR_ATIME | FATTR_MTIME)) {
    struct timespec times[2] = {{(time_t)set->atime, UTIME_OMIT}, {(time_t)set->mtime, UTIME_OMIT}};
    if (set->valid & FATTR_ATIME) times[0].tv_nsec = set->valid & FATTR_ATIME_NOW ? UTIME_NOW : (long)set->atimensec;
    if (set->valid & FATTR_MTIME) times[1].tv_nsec = set->valid & FATTR_MTIME_NOW ? UTIME_NOW : (long)set->mtimensec;
    if (utimensat(AT_FDCWD, path, times, follow) < 0) return finish(in, -1);
  }
  answer_attr(in, node);
}

/* --- attributes */

/* The directory of a node becomes the working one. */
static const char *enter(struct node *node, char *buffer) {
  const char *path = path_of(node, buffer);
  int branch = !S_ISDIR(node->type) ? node->branch : node->in_upper ? UPPER : node->lowers[0];
  return path && go(branch) == 0 ? path : NULL;
}

static bool is_own(const char *name) { return strncmp(name, OVERLAY_XATTR, sizeof OVERLAY_XATTR - 1) == 0; }

static void answer_sized(const struct fuse_in_header *in, ssize_t n, uint32_t asked) {
  if (n < 0) return finish(in, -1);
  struct fuse_getxattr_out size = {.size = (uint32_t)n};
  if (asked == 0) return answer(in, 0, &size, sizeof size);
  if ((size_t)n > asked) return errno = ERANGE, finish(in, -1);
  answer(in, 0, data, (size_t)n);
}

static void do_getxattr(const struct fuse_in_header *in, uint32_t size, const char *name) {
  char buffer[UNION_PATH];
  if (is_own(name)) return errno = ENODATA, finish(in, -1);
  const char *path = enter(node_at(in->nodeid), buffer);
  answer_sized(in, path ? lgetxattr(path, name, data, 65536) : -1, size);
}

static void do_listxattr(const struct fuse_in_header *in, uint32_t size) {
  char buffer[UNION_PATH], names[65536];
  const char *path = enter(node_at(in->nodeid), buffer);
  ssize_t all = path ? llistxattr(path, names, sizeof names) : -1, n = 0;
  for (char *name = names; all > 0 && name < names + all; name += strlen(name) + 1) {
    if (is_own(name)) continue;
    memcpy(data + n, name, strlen(name) + 1);
    n += (ssize_t)strlen(name) + 1;
  }
  answer_sized(in, all < 0 ? -1 : n, size);
}

static void do_setxattr(const struct fuse_in_header *in, const char *name, const void *value, size_t n, int flags, bool removes) {
  char buffer[UNION_PATH];
  struct node *node = node_at(in->nodeid);
  if (is_own(name)) return errno = EPERM, finish(in, -1);
  const char *path = copy_up(node) < 0 ? NULL : enter(node, buffer);
  finish(in, !path ? -1 : removes ? lremovexattr(path, name) : lsetxattr(path, name, value, n, flags));
}

/* --- the loop */

static void do_init(const struct fuse_in_header *in, const struct fuse_init_in *init) {
  uint32_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_MAX_PAGES;
  struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                              .minor = FUSE_KERNEL_MINOR_VERSION,
                              .max_readahead = init->max_readahead,
                              .flags = init->flags & wanted,
                              .max_background = 64,
                              .congestion_threshold = 48,
                              .max_write = WRITE_MAX,
                              .time_gran = 1,
                              .max_pages = PAGES_MAX};
  answer(in, 0, &out, sizeof out);
}

static void do_statfs(const struct fuse_in_header *in) {
  struct statfs fs;
  if (fstatfs(B.fd[UPPER], &fs) < 0) return finish(in, -1);
  struct fuse_statfs_out out = {.st = {.blocks = fs.f_blocks,
                                       .bfree = fs.f_bfree,
                                       .bavail = fs.f_bavail,
                                       .files = fs.f_files,
                                       .ffree = fs.f_ffree,
                                       .bsize = (uint32_t)fs.f_bsize,
                                       .namelen = (uint32_t)fs.f_namelen,
                                       .frsize = (uint32_t)fs.f_frsize}};
  answer(in, 0, &out, sizeof out);
}

static void do_readdir(const struct fuse_in_header *in, const struct fuse_read_in *read_in) {
  struct handle *h = handle_at(read_in->fh);
  if (read_in->offset == 0 && read_directory(h) < 0) return finish(in, -1);
  size_t at = read_in->offset, end = at;
  while (end < h->used) {
    size_t size = FUSE_DIRENT_SIZE((struct fuse_dirent *)(h->entries + end));
    if (end + size - at > read_in->size) break;
    end += size;
  }
  answer(in, 0, h->entries + at, at < end ? end - at : 0);
}

static void do_readlink(const struct fuse_in_header *in) {
  char buffer[UNION_PATH];
  const char *path = enter(node_at(in->nodeid), buffer);
  ssize_t n = path ? readlink(path, (char *)data, UNION_PATH) : -1;
  if (n < 0) return finish(in, -1);
  answer(in, 0, data, (size_t)n);
}

static void do_read(const struct fuse_in_header *in, const struct fuse_read_in *ask) {
  ssize_t n = pread(handle_at(ask->fh)->fd, data, ask->size < WRITE_MAX ? ask->size : WRITE_MAX, (off_t)ask->offset);
  if (n < 0) return finish(in, -1);
  answer(in, 0, data, (size_t)n);
}

static void do_write(const struct fuse_in_header *in, const struct fuse_write_in *ask) {
  ssize_t n = pwrite(handle_at(ask->fh)->fd, ask + 1, ask->size, (off_t)ask->offset);
  if (n < 0) return finish(in, -1);
  struct fuse_write_out out = {.size = (uint32_t)n};
  answer(in, 0, &out, sizeof out);
}

static void do_lseek(const struct fuse_in_header *in, const struct fuse_lseek_in *ask) {
  off_t at = lseek(handle_at(ask->fh)->fd, (off_t)ask->offset, (int)ask->whence);
  if (at < 0) return finish(in, -1);
  struct fuse_lseek_out out = {.offset = (uint64_t)at};
  answer(in, 0, &out, sizeof out);
}

static void batch_forget(const struct fuse_batch_forget_in *batch) {
  const struct fuse_forget_one *one = (const void *)(batch + 1);
  for (uint32_t i = 0; i < batch->count; i++)
    if (one[i].nodeid != FUSE_ROOT_ID) forget_node(node_at(one[i].nodeid), one[i].nlookup);
}

static void handle(const struct fuse_in_header *in, const void *arg) {
  struct stat st;
  const char *text = arg;
  switch (in->opcode) {
    case FUSE_INIT: return do_init(in, arg);
    case FUSE_DESTROY: exit(0);
    case FUSE_LOOKUP: return do_lookup(in, text);
    case FUSE_FORGET:
      if (in->nodeid != FUSE_ROOT_ID) forget_node(node_at(in->nodeid), ((const struct fuse_forget_in *)arg)->nlookup);
      return;
    case FUSE_BATCH_FORGET: return batch_forget(arg);
    case FUSE_INTERRUPT: return;
    case FUSE_GETATTR: return answer_attr(in, node_at(in->nodeid));
    case FUSE_SETATTR: return do_setattr(in, arg);
    case FUSE_READLINK: return do_readlink(in);
    case FUSE_SYMLINK: return answer_made(in, make(in, text, S_IFLNK | 0777, 0, text + strlen(text) + 1, &st), &st);
    case FUSE_MKNOD: {
      const struct fuse_mknod_in *mknod_in = arg;
      return answer_made(in, make(in, (const char *)(mknod_in + 1), mknod_in->mode, mknod_in->rdev, NULL, &st), &st);
    }
    case FUSE_MKDIR: {
      const struct fuse_mkdir_in *mkdir_in = arg;
      return answer_made(in, make(in, (const char *)(mkdir_in + 1), (mkdir_in->mode & 07777) | S_IFDIR, 0, NULL, &st), &st);
    }
    case FUSE_UNLINK: return do_unlink(in, text);
    case FUSE_RMDIR: return finish(in, remove_directory(node_at(in->nodeid), text));
    case FUSE_RENAME: {
      const struct fuse_rename_in *rename_in = arg;
      text = (const char *)(rename_in + 1);
      return do_rename(in, rename_in->newdir, 0, text, text + strlen(text) + 1);
    }
    case FUSE_RENAME2: {
      const struct fuse_rename2_in *rename_in = arg;
      text = (const char *)(rename_in + 1);
      return do_rename(in, rename_in->newdir, rename_in->flags, text, text + strlen(text) + 1);
    }
    case FUSE_LINK: return do_link(in, arg, text + sizeof(struct fuse_link_in));
    case FUSE_OPEN: return answer_open(in, open_file(node_at(in->nodeid), ((const struct fuse_open_in *)arg)->flags));
    case FUSE_CREATE: return do_create(in, arg, text + sizeof(struct fuse_create_in));
    case FUSE_READ: return do_read(in, arg);
    case FUSE_WRITE: return do_write(in, arg);
    case FUSE_STATFS: return do_statfs(in);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR: return do_release(in, ((const struct fuse_release_in *)arg)->fh);
    case FUSE_FLUSH: return finish(in, 0);
    case FUSE_FSYNC: return finish(in, fsync(handle_at(((const struct fuse_fsync_in *)arg)->fh)->fd));
    case FUSE_FSYNCDIR: return finish(in, 0);
    case FUSE_FALLOCATE: {
      const struct fuse_fallocate_in *ask = arg;
      return finish(in, fallocate(handle_at(ask->fh)->fd, (int)ask->mode, (off_t)ask->offset, (off_t)ask->length));
    }
    case FUSE_LSEEK: return do_lseek(in, arg);
    case FUSE_OPENDIR: return answer_open(in, new_handle(node_at(in->nodeid), -1, 0));
    case FUSE_READDIR: return do_readdir(in, arg);
    case FUSE_GETXATTR: return do_getxattr(in, ((const struct fuse_getxattr_in *)arg)->size, text + sizeof(struct fuse_getxattr_in));
    case FUSE_LISTXATTR: return do_listxattr(in, ((const struct fuse_getxattr_in *)arg)->size);
    case FUSE_SETXATTR: {
      const struct fuse_setxattr_in *set = arg;
      text += FUSE_COMPAT_SETXATTR_IN_SIZE;
      return do_setxattr(in, text, text + strlen(text) + 1, set->size, (int)set->flags, false);
    }
    case FUSE_REMOVEXATTR: return do_setxattr(in, text, NULL, 0, 0, true);
    default: errno = ENOSYS; return finish(in, -1);
  }
}

/* What a crash has left there. */
static void clear_work(void) {
  int fd = dup(B.work);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  for (struct dirent *e; dir && (e = readdir(dir));)
    if (strncmp(e->d_name, "union-", 6) == 0 && unlinkat(B.work, e->d_name, 0) < 0 && errno == EISDIR) unlinkat(B.work, e->d_name, AT_REMOVEDIR);
  if (dir) closedir(dir);
}

static int open_branches(char *work, char **paths, int count) {
  if (count < 1 || count > MAX_BRANCHES) return errno = E2BIG, -1;
  B.writable = work[0] != 0;
  B.count = count;
  B.work = B.writable ? open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (B.writable && B.work < 0) return -1;
  if (B.writable) clear_work();
  struct stat st;
  if (!(root_node.lowers = malloc(sizeof *root_node.lowers * (size_t)count))) return -1;
  for (int i = 0; i < count; i++) {
    if ((B.fd[i] = open(paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || fstat(B.fd[i], &st) < 0) return -1;
    if (i == 0) root_node.ino = st.st_ino;
    if (B.writable && i == UPPER) root_node.in_upper = true;
    else root_node.lowers[root_node.n_lowers++] = (uint16_t)i;
  }
  return 0;
}

int union_main(int argc, char **argv) {
  char options[128];
  umask(0);
  if (argc < 5 || open_branches(argv[3], argv + 4, argc - 4) < 0) return errno ? errno : 1;
  if ((device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) return errno;
  sprintf(options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions", device);
  uint8_t *request = malloc(BUFFER);
  data = malloc(WRITE_MAX);
  if (!request || !data || mount("wherry-union", argv[2], "fuse.wherry-union", 0, options) < 0) return errno;
  for (;;) {
    ssize_t n = read(device, request, BUFFER);
    if (n < 0 && errno == ENODEV) return 0;
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
    if (n < (ssize_t)sizeof(struct fuse_in_header)) return 1;
    handle((const void *)request, request + sizeof(struct fuse_in_header));
  }
}
