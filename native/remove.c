/* rm -r with a constant number of descriptors and no path that grows: a hostile tree may be deeper than PATH_MAX. */
#include "tree.h"

#include <dirent.h>
#include <stdlib.h>

struct above { /* a directory that we came down from */
  dev_t dev;
  ino_t ino;
};

static int open_dir(int at, const char *name) { return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); }

/* Empties a directory of everything but full subdirectories. 0 = empty now; 1 = `full` names a subdirectory to go down into; -1 errno. */
static int empty_once(int fd, char full[NAME_MAX + 1]) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  DIR *dir = copy < 0 ? NULL : fdopendir(copy);
  if (!dir) {
    if (copy >= 0) close(copy);
    return -1;
  }
  rewinddir(dir);
  int result = 0;
  for (struct dirent *entry; result == 0 && (errno = 0, entry = readdir(dir));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    int done = entry->d_type == DT_DIR ? -1 : unlinkat(fd, entry->d_name, 0);
    if (done == 0 || (entry->d_type != DT_DIR && errno == ENOENT)) continue;
    if (entry->d_type != DT_DIR && errno != EISDIR && errno != EPERM) {
      result = -1;
      break;
    }
    int saved = errno;
    if (unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
    if (errno == ENOTEMPTY || errno == EEXIST) {
      strcpy(full, entry->d_name);
      result = 1;
    } else {
      if (errno == ENOTDIR) errno = saved; /* it was a file after all, one that cannot be removed */
      result = -1;
    }
  }
  if (result == 0 && errno != 0) result = -1;
  int saved = errno;
  closedir(dir);
  errno = saved;
  return result;
}

/* Empties the directory `fd` (which is closed). */
static int empty(int fd) {
  struct above *stack = NULL;
  size_t depth = 0, capacity = 0;
  char name[NAME_MAX + 1];
  int result;
  for (;;) {
    result = empty_once(fd, name);
    if (result < 0) break;
    int next;
    if (result == 1) {
      struct stat st;
      if (depth == capacity) {
        capacity = capacity ? 2 * capacity : 64;
        struct above *bigger = realloc(stack, capacity * sizeof *stack);
        if (!bigger) {
          result = -1;
          break;
        }
        stack = bigger;
      }
      if (fstat(fd, &st) < 0 || (next = open_dir(fd, name)) < 0) {
        result = -1;
        break;
      }
      stack[depth++] = (struct above){st.st_dev, st.st_ino};
    } else {
      if (depth == 0) break;
      struct stat st;
      next = open_dir(fd, "..");
      if (next < 0) {
        result = -1;
        break;
      }
      depth--;
      if (fstat(next, &st) < 0 || st.st_dev != stack[depth].dev || st.st_ino != stack[depth].ino) {
        close(next);
        errno = ESTALE; /* moved while we were inside */
        result = -1;
        break;
      }
    }
    close(fd);
    fd = next;
  }
  int saved = errno;
  close(fd);
  free(stack);
  errno = saved;
  return result;
}

int remove_tree(const char *path) {
  if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR) return 0;
  if (errno != EISDIR && errno != EPERM) return -1;
  int saved = errno;
  if (rmdir(path) == 0) return 0;
  if (errno == ENOTDIR) return errno = saved, -1;
  if (errno != ENOTEMPTY && errno != EEXIST) return -1;
  int fd = open_dir(AT_FDCWD, path);
  if (fd < 0 || empty(fd) < 0) return -1;
  return rmdir(path) == 0 || errno == ENOENT ? 0 : -1;
}
