/* A container's pid 1 for programs that do not want to be one: forwards signals, reaps orphans, ends with its child's code (128+n for a signal). */
#include "roles.h"
#include "sys.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *text) {
  ssize_t ignored = write(2, text, strlen(text));
  (void)ignored;
}

_Noreturn static void run_command(char **argv, const sigset_t *mask) {
  setpgid(0, 0);
  tcsetpgrp(0, getpgrp()); /* the terminal's foreground, where there is one: SIGTTOU is still blocked */
  sigprocmask(SIG_SETMASK, mask, NULL);
  execvp(argv[0], argv);
  int code = errno == ENOENT ? 127 : 126;
  say("docker-init: cannot run ");
  say(argv[0]);
  say(": ");
  say(strerror(errno));
  say("\n");
  _exit(code);
}

int init_main(int argc, char **argv) {
  int first = 1;
  while (first < argc && argv[first][0] == '-' && strcmp(argv[first], "--") != 0) first++; /* tini's options change nothing here */
  if (first < argc && strcmp(argv[first], "--") == 0) first++;
  if (first >= argc) {
    say("usage: docker-init -- COMMAND [ARG...]\n");
    return 1;
  }
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none); /* not what we were started with: the plan has blocked all, so that no signal is lost before we are ready */
  static const int synchronous[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};
  for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++) sigdelset(&all, synchronous[i]);
  sigprocmask(SIG_SETMASK, &all, NULL);
  pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) run_command(argv + first, &none);
  int code = -1;
  for (;;) {
    siginfo_t info;
    if (code < 0) {
      if (sigwaitinfo(&all, &info) < 0) continue;
      if (info.si_signo != SIGCHLD) {
        if (info.si_signo != SIGTTIN && info.si_signo != SIGTTOU) kill(child, info.si_signo);
        continue;
      }
    }
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
      if (pid == child) code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (code >= 0) return code;
  }
}
