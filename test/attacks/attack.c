/* What a hostile program in a container tries. One line of output for each try: "NAME ok" or "NAME ERRNO". Static, so that any root will do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void told(const char *what, long result) {
  printf("%s %s\n", what, result >= 0 ? "ok" : strerrorname_np(errno));
  fflush(stdout);
}

/* Opens for writing and writes nothing: what would be overwritten is the host's. */
static void open_write(const char *path) { told(path, open(path, O_WRONLY | O_CLOEXEC)); }

static void descriptors(void) {
  for (int fd = 3; fd < 1024; fd++) {
    char path[64], target[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) continue;
    target[n] = 0;
    printf("%d %s\n", fd, target);
  }
}

static void groups(void) {
  gid_t list[64];
  int n = getgroups(64, list);
  for (int i = 0; i < n; i++) printf("%u ", list[i]);
  printf("\n");
}

static void keyring(void) {
  long id = syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* session */, 0);
  told("keyctl", id);
  printf("%ld\n", id);
}

static void node(unsigned major, unsigned minor) {
  told("mknod", mknod("/tmp/node", S_IFCHR | 0600, makedev(major, minor)));
  told("open", open("/tmp/node", O_RDONLY | O_NONBLOCK));
}

static void by_handle(const char *path) {
  struct {
    struct file_handle head;
    unsigned char bytes[128];
  } handle = {.head.handle_bytes = 128};
  int mount_id;
  told("name_to_handle_at", name_to_handle_at(AT_FDCWD, path, &handle.head, &mount_id, 0));
  int at = open(path, O_RDONLY);
  told("open_by_handle_at", open_by_handle_at(at, &handle.head, O_RDONLY));
}

static void release_agent(void) {
  mkdir("/tmp/cg", 0755);
  told("mount", mount("x", "/tmp/cg", "cgroup", 0, "pids"));
}

static void swap_forever(const char *a, const char *b) {
  for (;;) syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
}

static void forks(int most) {
  int n = 0;
  while (n < most) {
    pid_t pid = fork();
    if (pid < 0) break;
    if (pid == 0) {
      pause();
      _exit(0);
    }
    n++;
  }
  printf("%d\n", n);
  fflush(stdout);
  kill(0, SIGKILL);
}

static void files(int most) {
  int n = 0;
  while (n < most && open("/", O_RDONLY) >= 0) n++;
  printf("%d\n", n);
}

static int is_engines(const char *pid) {
  char path[64], name[32] = "";
  snprintf(path, sizeof path, "/proc/%s/comm", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  if (read(fd, name, sizeof name - 1) < 0) name[0] = 0;
  close(fd);
  return strncmp(name, "wherry", 6) == 0;
}

/* Is it a program of the container's already: the one that joins ("true"), or the pause before it ("sleep")? Those may be traced. */
static int is_program(const char *pid) {
  char path[64], name[8] = "";
  snprintf(path, sizeof path, "/proc/%s/comm", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 1; /* it has ended */
  ssize_t n = read(fd, name, sizeof name - 1);
  close(fd);
  return n <= 0 || (strcmp(name, "true\n") == 0 || strcmp(name, "sleep\n") == 0);
}

/* The name follows the new program by a moment. */
static int is_early(const char *pid) {
  usleep(3000);
  return !is_program(pid);
}

/* Who watches does so until it is told that there is nothing more to see, and says when it begins. */
static volatile sig_atomic_t over;

static void end_watch(int signal) {
  (void)signal;
  over = 1;
}

static void begin_watch(void) {
  signal(SIGTERM, end_watch);
  told("watching", 0);
}

/* Tells what it can do to a process of the engine that it sees among its own. */
static void watch(void) {
  int seen = 0, got = 0;
  begin_watch();
  while (!over) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc));) {
      if (e->d_name[0] < '1' || e->d_name[0] > '9' || !is_engines(e->d_name)) continue;
      char path[64];
      if (!seen++) told("seen", 0);
      static const char *const parts[] = {"root/etc", "fd/0", "mem", "environ"};
      for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", e->d_name, parts[i]);
        if (open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) >= 0 && !(got & 1 << i) && is_early(e->d_name)) got |= 1 << i, told(parts[i], 0);
      }
      pid_t pid = atoi(e->d_name);
      if (!is_program(e->d_name) && ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        if (!(got & 16) && is_early(e->d_name)) got |= 16, told("ptrace", 0);
        /* Let go of it: whoever waits for its end would wait for us. */
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        waitpid(pid, NULL, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
      }
    }
    closedir(proc);
  }
  printf("end\n");
}

static unsigned long long effective(const char *pid) {
  char path[64], text[4096] = "", *at;
  snprintf(path, sizeof path, "/proc/%s/status", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n < 0 ? 0 : n] = 0;
  return (at = strstr(text, "CapEff:")) ? strtoull(at + 7, NULL, 16) : 0;
}

/* What a process has open beside 0-2, the socket on which it waits for its start, and what the test's own pause takes: a pipe and a pidfd. */
static int spare_descriptors(const char *pid) {
  char path[64];
  int n = -1;
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *fds = opendir(path);
  if (!fds) return 0;
  for (struct dirent *e; (e = readdir(fds));) {
    char target[64] = "";
    if (atoi(e->d_name) > 2 && readlinkat(dirfd(fds), e->d_name, target, sizeof target - 1) > 0 && strncmp(target, "pipe:", 5) && !strstr(target, "pidfd")) n++;
  }
  closedir(fds);
  return n;
}

/* With CAP_SYS_PTRACE: what a process that joins has, which its program will not have. `mark`: a file of the host only. */
static void watch_joining(const char *mark) {
  unsigned long long own = effective("self");
  int got = 0;
  begin_watch();
  while (!over) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc));) {
      if (e->d_name[0] < '1' || e->d_name[0] > '9' || strcmp(e->d_name, "1") == 0) continue;
      char path[512];
      if (!(got & 1)) got |= 1, told("seen", 0);
      snprintf(path, sizeof path, "/proc/%s/root%s", e->d_name, mark);
      if (!(got & 2) && access(path, F_OK) == 0) got |= 2, told("root", 0);
      if (!(got & 4) && effective(e->d_name) & ~own) got |= 4, told("rights", 0);
      if (!(got & 8) && spare_descriptors(e->d_name) > 0) got |= 8, told("descriptors", 0);
    }
    closedir(proc);
  }
  printf("end\n");
}

/* CVE-2019-5736: waits for a process whose program is not of this root, and takes its file. */
static void watch_exe(void) {
  struct stat own, st;
  stat("/proc/self/exe", &own);
  begin_watch();
  while (!over) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc));) {
      char path[64], target[256] = "";
      if (e->d_name[0] < '1' || e->d_name[0] > '9') continue;
      snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
      ssize_t n = readlink(path, target, sizeof target - 1);
      int fd = open(path, O_RDONLY | O_CLOEXEC);
      if (n < 0 || fd < 0 || fstat(fd, &st) < 0 || st.st_ino == own.st_ino || strstr(target, "busybox")) {
        if (fd >= 0) close(fd);
        continue;
      }
      printf("exe %s %lu\n", target, (unsigned long)st.st_ino);
      printf("seals %d\n", fcntl(fd, F_GET_SEALS));
      snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
      int again;
      time_t end = time(NULL) + 3; /* other processes may run the same program for ever */
      do again = open(path, O_WRONLY | O_CLOEXEC);
      while (again < 0 && errno == ETXTBSY && time(NULL) < end);
      told("open", again);
      if (again >= 0) told("write", write(again, "#", 1));
      return;
    }
    closedir(proc);
  }
  printf("end\n");
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (!strcmp(what, "open-write")) for (int i = 2; i < argc; i++) open_write(argv[i]);
  else if (!strcmp(what, "descriptors")) descriptors();
  else if (!strcmp(what, "groups")) groups();
  else if (!strcmp(what, "keyring")) keyring();
  else if (!strcmp(what, "node")) node((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
  else if (!strcmp(what, "by-handle")) by_handle(argv[2]);
  else if (!strcmp(what, "release-agent")) release_agent();
  else if (!strcmp(what, "swap")) swap_forever(argv[2], argv[3]);
  else if (!strcmp(what, "forks")) forks(atoi(argv[2]));
  else if (!strcmp(what, "files")) files(atoi(argv[2]));
  else if (!strcmp(what, "watch")) watch();
  else if (!strcmp(what, "watch-joining")) watch_joining(argv[2]);
  else if (!strcmp(what, "watch-exe")) watch_exe();
  else if (!strcmp(what, "tiocsti")) {
    char c = 'x';
    int tty = open("/dev/tty", O_RDWR);
    told("tty", tty);
    told("tiocsti", ioctl(tty < 0 ? 0 : tty, TIOCSTI, &c));
    told("controlling", ioctl(0, TIOCSCTTY, 0));
  } else if (!strcmp(what, "stdin")) {
    struct stat st;
    fstat(0, &st);
    printf("%s\n", S_ISFIFO(st.st_mode) ? "pipe" : S_ISCHR(st.st_mode) ? "device" : "other");
  } else return 2;
  return 0;
}
