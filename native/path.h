/* Paths below a slot. The container may be changing its tree while we walk it, so nothing is checked by string: the kernel resolves
 * (openat2 RESOLVE_IN_ROOT) and we hold on to the descriptor that it found. */
#ifndef WHERRY_PATH_H
#define WHERRY_PATH_H
#include "wire.h"
#include "sys.h"

enum { PATH_SIZE = 4096 };

/* The descriptor of a slot; AT_FDCWD for none. */
static inline int slot_fd(uint32_t slot) { return slot == NO_SLOT ? AT_FDCWD : SLOT_BASE + (int)slot; }

/* Opens a path below a slot ("" = the slot's own file), or an absolute one. */
int path_open(uint32_t dir, const char *path, uint64_t flags, uint32_t mode);
/* Opens the parent directory of a path and stores its last component in `base`. */
int path_parent(uint32_t dir, const char *path, char base[PATH_SIZE]);
/* Makes a directory and its missing parents; an existing one is no error. Dangling symlinks on the way are followed below the root. */
int path_mkdirs(uint32_t dir, const char *path, uint32_t mode, uint32_t uid, uint32_t gid);
/* Makes an empty file (and missing parents); an existing entry is no error. */
int path_mkfile(uint32_t dir, const char *path, uint32_t mode, bool parents);
/* "/proc/self/fd/N" for calls that know only paths. */
const char *fd_path(int fd, char buffer[40]);
#endif
