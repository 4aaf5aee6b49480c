/* What a union of directories must do as any file system does, seen from within: the method of unionmount-testsuite (each operation on a file of a lower layer, then the
 * result compared with POSIX), in one program. Run in a directory that an image brought (t/): prints a line for each check that fails; exit status = how many did. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int failed;
#define CHECK(what, condition) check(what, (condition) != 0)
static void check(const char *what, bool good) {
  if (good) return;
  failed++;
  printf("FAIL %s\n", what);
}
static bool fails(int result, int expected) { return result < 0 && errno == expected; }
static struct stat st(const char *path) {
  struct stat s;
  memset(&s, 0, sizeof s);
  if (lstat(path, &s) < 0) s.st_nlink = 0;
  return s;
}
static bool holds(const char *path, const char *text) {
  char buffer[64] = "";
  int fd = open(path, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);
  close(fd);
  return n >= 0 && (buffer[n] = 0, strcmp(buffer, text) == 0);
}
static bool put(const char *path, int flags, const char *text) {
  int fd = open(path, O_WRONLY | flags, 0644);
  bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  close(fd);
  return good;
}
static int names(const char *path) {
  DIR *d = opendir(path);
  int n = 0;
  for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return d ? n : -1;
}

int main(void) {
  if (chdir("/t") < 0) return 99;

  /* copy-up */
  ino_t ino = st("f").st_ino;
  int reader = open("f", O_RDONLY);
  char buffer[16] = "";
  CHECK("append to a lower file", put("f", O_APPEND, "more") && holds("f", "lowermore"));
  CHECK("inode number survives copy-up", st("f").st_ino == ino);
  CHECK("a descriptor from before copy-up reads a whole file", pread(reader, buffer, 5, 0) == 5 && memcmp(buffer, "lower", 5) == 0);
  close(reader);
  CHECK("truncate a lower file", truncate("trunc", 2) == 0 && holds("trunc", "lo"));
  CHECK("O_TRUNC a lower file", put("otrunc", O_TRUNC, "new") && holds("otrunc", "new"));
  CHECK("O_EXCL on a lower file", fails(open("g", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST));
  CHECK("chmod of a lower file", chmod("mode", 0751) == 0 && (st("mode").st_mode & 07777) == 0751 && holds("mode", "lower"));
  CHECK("chown of a lower file", chown("owner", 5, 6) == 0 && st("owner").st_uid == 5 && st("owner").st_gid == 6);
  struct timespec times[2] = {{1000, 1}, {2000, 2}};
  CHECK("times of a lower file", utimensat(AT_FDCWD, "times", times, 0) == 0 && st("times").st_mtim.tv_sec == 2000 && st("times").st_mtim.tv_nsec == 2);
  CHECK("xattr of a lower file", setxattr("xattr", "user.k", "v", 1, 0) == 0 && getxattr("xattr", "user.k", buffer, 16) == 1 && buffer[0] == 'v' && holds("xattr", "lower"));
  CHECK("xattr of the image survives copy-up", (put("xattr", O_APPEND, "+"), getxattr("xattr", "user.image", buffer, 16)) == 1);

  /* mmap */
  int fd = open("mapped", O_RDWR);
  char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK("mmap of a lower file", map != MAP_FAILED);
  if (map != MAP_FAILED) {
    map[0] = 'L';
    CHECK("msync", msync(map, 4096, MS_SYNC) == 0);
    munmap(map, 4096);
    CHECK("what is mapped is written", holds("mapped", "Lower"));
  }
  close(fd);

  /* links */
  CHECK("link to a lower file", link("g", "g2") == 0 && st("g2").st_nlink == 2);
  CHECK("a link shares what is written", put("g2", O_APPEND, "x") && holds("g", "lowerx"));
  CHECK("both names have one inode", st("g").st_ino == st("g2").st_ino);
  CHECK("unlink of one name leaves the other", unlink("g") == 0 && holds("g2", "lowerx") && st("g2").st_nlink == 1);
  CHECK("symlink of the image", readlink("sym", buffer, sizeof buffer) == 1 && buffer[0] == 'd');
  CHECK("replace a symlink", unlink("sym") == 0 && symlink("elsewhere", "sym") == 0 && S_ISLNK(st("sym").st_mode));

  /* rename */
  CHECK("rename a lower file", rename("r1", "r2") == 0 && holds("r2", "lower") && fails(access("r1", F_OK), ENOENT));
  CHECK("rename over a lower file", rename("r2", "r3") == 0 && holds("r3", "lower") && fails(access("r2", F_OK), ENOENT));
  CHECK("a name may come back after a rename", put("r1", O_CREAT | O_EXCL, "again") && holds("r1", "again"));
  int moved = rename("dir", "dir2");
  CHECK("rename of a lower directory works or says EXDEV", moved == 0 || errno == EXDEV);
  CHECK("and loses nothing", holds(moved == 0 ? "dir2/x" : "dir/x", "lower"));
  CHECK("rename onto a directory with something in it", (mkdir("empty", 0755), fails(rename("empty", "full"), ENOTEMPTY) || errno == EEXIST));
  CHECK("rename of a directory into itself", (mkdir("n", 0755), mkdir("n/a", 0755), fails(rename("n", "n/a/b"), EINVAL)));
  CHECK("rename of a new directory", rename("n", "n2") == 0 && S_ISDIR(st("n2/a").st_mode));

  /* white-outs */
  CHECK("unlink a lower file", unlink("gone") == 0 && fails(access("gone", F_OK), ENOENT));
  CHECK("unlink it twice", fails(unlink("gone"), ENOENT));
  CHECK("a directory where a file was", mkdir("gone", 0755) == 0 && names("gone") == 0);
  CHECK("rmdir of a full lower directory", fails(rmdir("full"), ENOTEMPTY));
  CHECK("empty and remove a lower directory", unlink("full/a") == 0 && unlink("full/b") == 0 && rmdir("full") == 0 && fails(access("full", F_OK), ENOENT));
  CHECK("made again it is empty", mkdir("full", 0755) == 0 && names("full") == 0 && fails(access("full/a", F_OK), ENOENT));
  CHECK("a file where a directory was", rmdir("full") == 0 && put("full", O_CREAT | O_EXCL, "file") && holds("full", "file"));
  CHECK("an open file that is unlinked can still be read", (fd = open("open", O_RDONLY)) >= 0 && unlink("open") == 0 && read(fd, buffer, 5) == 5 && memcmp(buffer, "lower", 5) == 0);
  close(fd);

  /* directories */
  CHECK("names of both layers, each once", put("many/new", O_CREAT, "x") && names("many") == 301);
  DIR *d = opendir("many");
  int seen = 0;
  for (struct dirent *e; d && (e = readdir(d));) {
    char path[300];
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "many/%s", e->d_name);
    seen++;
    CHECK("unlink while reading the directory", unlink(path) == 0);
  }
  if (d) closedir(d);
  CHECK("readdir while changing sees every name once", seen == 301 && names("many") == 0);
  CHECK("nothing is left", rmdir("many") == 0);
  CHECK("a name of 255 bytes, and none longer", ({ char n[257]; memset(n, 'n', 256); n[256] = 0; bool long_one = fails(open(n, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG); n[255] = 0; long_one && put(n, O_CREAT, "x"); }));

  /* POSIX' errors */
  CHECK("ENOTDIR", fails(open("f/x", O_RDONLY), ENOTDIR));
  CHECK("EISDIR", fails(open("dir2", O_WRONLY), EISDIR) || fails(open("dir", O_WRONLY), EISDIR));
  CHECK("ELOOP", (symlink("loop", "loop"), fails(open("loop", O_RDONLY), ELOOP)));
  CHECK("link to a directory", (mkdir("ld", 0755), fails(link("ld", "ld2"), EPERM)));
  CHECK("rmdir of a file", fails(rmdir("f"), ENOTDIR));
  CHECK("unlink of a directory", fails(unlink("ld"), EISDIR) || errno == EPERM);
  CHECK("fifo", mkfifo("fifo", 0600) == 0 && S_ISFIFO(st("fifo").st_mode));
  CHECK("sparse", (fd = open("sparse", O_RDWR | O_CREAT, 0644)) >= 0 && pwrite(fd, "x", 1, 1 << 20) == 1 && st("sparse").st_size == (1 << 20) + 1 && st("sparse").st_blocks < 200);
  close(fd);
  CHECK("O_TMPFILE and linkat", (fd = open(".", O_TMPFILE | O_RDWR, 0644)) < 0 ? errno == EOPNOTSUPP : ({ char p[40]; snprintf(p, sizeof p, "/proc/self/fd/%d", fd); linkat(AT_FDCWD, p, AT_FDCWD, "tmp", AT_SYMLINK_FOLLOW) == 0 && st("tmp").st_nlink == 1; }));
  CHECK("RENAME_NOREPLACE", fails(renameat2(AT_FDCWD, "f", AT_FDCWD, "owner", RENAME_NOREPLACE), EEXIST));
  CHECK("RENAME_EXCHANGE", renameat2(AT_FDCWD, "f", AT_FDCWD, "owner", RENAME_EXCHANGE) == 0 && holds("owner", "lowermore"));
  printf("%d failed\n", failed);
  return failed;
}
