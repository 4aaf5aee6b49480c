#include "path.h"

#include <limits.h>
#include <string.h>

#define IN_ROOT (W_RESOLVE_IN_ROOT | W_RESOLVE_NO_MAGICLINKS)
enum { MAX_LINKS = 40 };

const char *fd_path(int fd, char buffer[40]) {
  strcpy(buffer, "/proc/self/fd/");
  *put_decimal(buffer + 14, (uint64_t)fd) = 0;
  return buffer;
}

int path_open(uint32_t dir, const char *path, uint64_t flags, uint32_t mode) {
  flags |= O_CLOEXEC;
  if (!(flags & (O_CREAT | O_TMPFILE))) mode = 0;
  if (dir == NO_SLOT) return open(path, (int)flags, mode);
  int root = slot_fd(dir);
  if (path[0]) return sys_openat2(root, path, flags, mode, IN_ROOT);
  if (flags & O_PATH) return fcntl(root, F_DUPFD_CLOEXEC, 0);
  int fd = sys_openat2(root, ".", flags & ~(uint64_t)(O_CREAT | O_EXCL), 0, IN_ROOT);
  if (fd >= 0 || errno != ENOTDIR) return fd;
  char buffer[40];
  return open(fd_path(root, buffer), (int)flags);
}

/* Splits at the last component. Trailing slashes are dropped; nonzero when there is no name to make ("", "/", "." and ".."). */
static int split(const char *path, char parent[PATH_SIZE], char base[PATH_SIZE]) {
  size_t n = strlen(path);
  while (n > 0 && path[n - 1] == '/') n--;
  if (n >= PATH_SIZE) return errno = ENAMETOOLONG, -1;
  size_t start = n;
  while (start > 0 && path[start - 1] != '/') start--;
  memcpy(base, path + start, n - start);
  base[n - start] = 0;
  if (base[0] == 0 || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) return errno = EINVAL, -1;
  memcpy(parent, path, start);
  parent[start] = 0;
  if (start == 0) strcpy(parent, ".");
  return 0;
}

int path_parent(uint32_t dir, const char *path, char base[PATH_SIZE]) {
  char parent[PATH_SIZE];
  if (split(path, parent, base)) return -1;
  return path_open(dir, parent, O_PATH | O_DIRECTORY, 0);
}

/* Replaces the symlink at path[0..end) by its target: path := (target absolute ? "" : dirname) + target + rest. */
static int splice_link(char path[PATH_SIZE], size_t end, int parent, const char *base) {
  char target[PATH_SIZE], joined[PATH_SIZE];
  ssize_t n = readlinkat(parent, base, target, sizeof target - 1);
  if (n < 0) return -1;
  target[n] = 0;
  size_t keep = 0;
  if (target[0] != '/') {
    keep = end;
    while (keep > 0 && path[keep - 1] != '/') keep--;
  }
  if (keep + (size_t)n + strlen(path + end) >= PATH_SIZE) return errno = ENAMETOOLONG, -1;
  memcpy(joined, path, keep);
  strcpy(joined + keep, target);
  strcat(joined, path + end);
  strcpy(path, joined);
  return 0;
}

/* Gives a directory that we have just made its owner and mode, where it has not been born with them. */
static int finish_dir(int parent, const char *base, uint32_t mode, uint32_t uid, uint32_t gid) {
  struct stat st;
  if (fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  bool owned = (uid == UINT32_MAX || uid == st.st_uid) && (gid == UINT32_MAX || gid == st.st_gid);
  if (owned && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == (mode & 07777)) return 0;
  int fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = 0;
  if ((uid != UINT32_MAX || gid != UINT32_MAX) && fchown(fd, uid, gid) < 0) result = -1;
  if (result == 0 && fchmod(fd, mode & 07777) < 0) result = -1;
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

/* Makes the directory path[0..end) whose parent exists. 0 = is there; 1 = a dangling symlink was spliced into path, start again. */
static int make_component(uint32_t dir, char path[PATH_SIZE], size_t end, uint32_t mode, uint32_t uid, uint32_t gid) {
  char prefix[PATH_SIZE], base[PATH_SIZE];
  memcpy(prefix, path, end);
  prefix[end] = 0;
  int fd = path_open(dir, prefix, O_PATH | O_DIRECTORY, 0);
  if (fd >= 0) return close(fd), 0;
  if (errno != ENOENT) return -1;
  int parent = path_parent(dir, prefix, base);
  if (parent < 0) return -1;
  int result = mkdirat(parent, base, mode & 07777);
  if (result == 0) {
    result = finish_dir(parent, base, mode, uid, gid);
  } else if (errno == EEXIST) { /* a dangling link, or somebody was faster */
    result = splice_link(path, end, parent, base) == 0 ? 1 : errno == EINVAL ? 0 : -1;
  }
  int saved = errno;
  close(parent);
  errno = saved;
  return result;
}

int path_mkdirs(uint32_t dir, const char *path, uint32_t mode, uint32_t uid, uint32_t gid) {
  char work[PATH_SIZE];
  if (strlen(path) >= PATH_SIZE) return errno = ENAMETOOLONG, -1;
  /* Mostly only the last one is missing. */
  int fd = path_parent(dir, path, work);
  if (fd >= 0) {
    int made = mkdirat(fd, work, mode & 07777);
    if (made == 0) made = finish_dir(fd, work, mode, uid, gid);
    else if (errno == EEXIST) made = 1;
    int saved = errno;
    close(fd);
    errno = saved;
    if (made <= 0) return made;
  } else if (errno != ENOENT && errno != EINVAL) {
    return -1;
  }
  fd = path_open(dir, path, O_PATH | O_DIRECTORY, 0);
  if (fd >= 0) return close(fd), 0;
  if (errno != ENOENT) return -1;
  strcpy(work, path);
  for (int links = 0; links < MAX_LINKS; links++) {
    int again = 0;
    for (size_t end = 0; work[end] && !again;) {
      while (work[end] == '/') end++;
      if (!work[end]) break;
      while (work[end] && work[end] != '/') end++;
      again = make_component(dir, work, end, mode, uid, gid);
      if (again < 0) return -1;
    }
    if (!again) return 0;
  }
  return errno = ELOOP, -1;
}

int path_mkfile(uint32_t dir, const char *path, uint32_t mode, bool parents) {
  char work[PATH_SIZE], parent[PATH_SIZE], base[PATH_SIZE];
  if (strlen(path) >= PATH_SIZE) return errno = ENAMETOOLONG, -1;
  strcpy(work, path);
  for (int links = 0; links < MAX_LINKS; links++) {
    int fd = path_open(dir, work, O_PATH, 0);
    if (fd >= 0) return close(fd), 0;
    if (errno != ENOENT || split(work, parent, base)) return -1;
    if (parents && path_mkdirs(dir, parent, 0755, UINT32_MAX, UINT32_MAX)) return -1;
    int at = path_open(dir, parent, O_PATH | O_DIRECTORY, 0);
    if (at < 0) return -1;
    fd = openat(at, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
    int result = fd >= 0 ? 0 : -1;
    if (fd >= 0) {
      close(fd);
    } else if (errno == EEXIST) {
      result = splice_link(work, strlen(work), at, base) == 0 ? 1 : errno == EINVAL ? 0 : -1;
    }
    int saved = errno;
    close(at);
    errno = saved;
    if (result <= 0) return result;
  }
  return errno = ELOOP, -1;
}
