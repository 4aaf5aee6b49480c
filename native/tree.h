/* The file worker: chrooted into one directory, it performs a stream of file operations and answers questions about the tree.
 * Frames are those of wire.h; `id` is the request's number.
 *
 * Guarded: the directory is a container's root, and its processes may swap any name for a link while we work (CVE-2018-15664). A chroot alone does
 * not hold then: a link to /proc/PID/root, where the container sees the host's processes, leads out of it. So every path is resolved by openat2(2)
 * without magic links, what a name is is asked of the descriptor that is then used, and the kernel's own filesystems (proc, sysfs, …) are not entered. */
#ifndef WHERRY_TREE_H
#define WHERRY_TREE_H
#include "wire.h"
#include "sys.h"

enum tree_op {
  T_MKDIR = 1,
  T_OPEN = 2,
  T_DATA = 3,
  T_SKIP = 4,
  T_CLOSE = 5,
  T_SYMLINK = 6,
  T_LINK = 7,
  T_MKNOD = 8,
  T_META = 9,
  T_XATTR = 10,
  T_REMOVE = 11,
  T_RENAME = 12,
  T_ENSURE = 13,
  T_EXPECT = 14,
  T_DIRMETA = 15,
  T_FILE = 16,
  T_FLUSH = 20,
  T_SYNC = 21,
  T_LSTAT = 22,
  T_WALK = 23,
  T_WALK_NEXT = 24,
  T_WALK_END = 25,
  T_READ = 26,
  T_READ_NEXT = 27,
  T_READ_END = 28,
  T_LIST = 29,
  T_OK = 64,
  T_ERROR = 65,
  T_DATA_OUT = 66,
  T_MISSING = 67,
};
enum {
  TREE_FRAME = (1 << 20) + (128 << 10), /* the longest frame in */
  TREE_OUT = 1 << 20,                   /* the longest frame out */
  TREE_BATCH = 128 << 10,               /* entries of a walk, bytes of a read */
  TREE_PATH = 4096,
  MAX_OPEN = 64,                        /* walks and reads at once */
};

/* An answer being built; fields that do not fit set `full`. */
struct answer {
  uint8_t *data;
  size_t n;
  bool full;
};
void answer_u8(struct answer *a, uint8_t v);
void answer_u32(struct answer *a, uint32_t v);
void answer_u64(struct answer *a, uint64_t v);
void answer_bytes(struct answer *a, const void *data, size_t n);

/* remove.c: removes a file or a whole tree below the working directory, however deep; a missing one is no error. */
int remove_tree(const char *path);

/* walk.c */
struct walk;
/* Appends what `name` in the directory `dir` is, under the given path. 0, or -1 with errno. `brief`: without xattrs and the number of blocks, else the
 * working directory is changed to `dir`. */
int answer_named(struct answer *a, int dir, const char *name, const char *path, bool brief, bool *descend);
/* The same of what a descriptor is open on: for reading (`fds` is -1), or O_PATH, where `fds` is /proc/self/fd, and the working directory afterwards. */
int answer_opened(struct answer *a, int fd, int fds, const char *path, bool brief, bool *descend);
/* `name`: where it is below the root, or (guarded: with `fds`, else -1) below the working directory, where mounts are crossed. `list`: the entry and, when
 * it is a directory, what is in it, each in brief. */
struct walk *walk_open(const char *path, const char *name, bool list, int fds);
/* Whether the descriptor's filesystem is the kernel's own: nothing in it is a container's file. */
bool is_kernel_filesystem(int fd);
/* Appends entries until the batch is full; 1 when the walk has ended, 0 when there is more, -1 with errno. */
int walk_next(struct walk *walk, struct answer *a);
void walk_close(struct walk *walk);
#endif
