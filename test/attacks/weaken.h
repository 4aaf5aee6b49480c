/* Included before every source of the helper: takes defences out of it, so that a test can show that it is they that hold. */
#ifndef WHERRY_WEAKEN_H
#define WHERRY_WEAKEN_H
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptors stay open over exec, and are not closed before. */
#undef O_CLOEXEC
#define O_CLOEXEC 0
#undef FD_CLOEXEC
#define FD_CLOEXEC 0
#undef F_DUPFD_CLOEXEC
#define F_DUPFD_CLOEXEC F_DUPFD
#undef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0
#undef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0

/* Nobody leaves the session, and with it the terminal, that it was started in. */
#define setsid() 0

static inline long weak_syscall(long number, ...) {
  unsigned long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, unsigned long);
  va_end(list);
  if (number == 436 /* close_range */) return 0;
  /* openat2: struct open_how { u64 flags, mode, resolve }: magic links are followed … */
  if (number == 437) ((unsigned long *)a[2])[2] &= ~2ul;
  /* … and a working directory outside of the root is none. */
  if (number == SYS_getcwd) return strcpy((char *)a[0], "/"), 2;
  return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
#define syscall(...) weak_syscall(__VA_ARGS__)
#endif
