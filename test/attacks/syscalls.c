/* Tries every system call of this machine's three entries, each in a child of its own, with arguments that no call can act on (-1). One line each:
 * "x86_64 165 EPERM" where the call was refused or is not there, "killed" where it ended the child, "other" for any other answer.
 * "absent" stands at every i386 call of a kernel that has no such entry (ia32_emulation=0): there int 0x80 is a fault, of getpid(2) as of any other. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static long enter_i386(long number) {
  long result;
  __asm__ volatile("push %%rbp; mov $-1, %%rbp; int $0x80; pop %%rbp" : "=a"(result) : "a"(number), "b"(-1L), "c"(-1L), "d"(-1L), "S"(-1L), "D"(-1L) : "memory", "r8", "r9", "r10", "r11");
  return result;
}

static long enter(long number) {
  long result;
  register long d __asm__("r10") = -1, e __asm__("r8") = -1, f __asm__("r9") = -1;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(-1L), "S"(-1L), "d"(-1L), "r"(d), "r"(e), "r"(f) : "rcx", "r11", "memory");
  return result;
}

static const char *attempt(int entry, long number) {
  pid_t pid = fork();
  if (pid < 0) return "fork";
  if (pid == 0) {
    struct itimerval soon = {.it_value = {.tv_usec = 300000}};
    setitimer(ITIMER_REAL, &soon, NULL); /* one that waits was let in */
    long result = entry == 2 ? enter_i386(number) : enter(entry == 1 ? number | 0x40000000 : number);
    _exit(result == -EPERM ? 1 : result == -ENOSYS ? 2 : 3);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGALRM ? "other" : WTERMSIG(status) == SIGSYS ? "killed" : "other";
  return WEXITSTATUS(status) == 1 ? "EPERM" : WEXITSTATUS(status) == 2 ? "ENOSYS" : "other";
}

static int has_i386(void) {
  pid_t pid = fork();
  if (pid < 0) return 1;
  if (pid == 0) _exit(enter_i386(20) > 0 ? 0 : 1);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return !(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

int main(void) {
  static const char *const entries[] = {"x86_64", "x32", "i386"};
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  int i386 = has_i386();
  for (int entry = 0; entry < 3; entry++)
    for (long number = 0; number < (entry == 1 ? 548 : 470); number++) {
      if (entry == 2 ? number == 36 : number == 162) continue; /* sync(2) acts without arguments */
      printf("%s %ld %s\n", entries[entry], number, entry == 2 && !i386 ? "absent" : attempt(entry, number));
      fflush(stdout);
    }
  return 0;
}
