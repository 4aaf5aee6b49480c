/* The stub's first words; see hello.c. */
#ifndef WHERRY_HELLO_H
#define WHERRY_HELLO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

enum { TOKEN = 32 };

/* What was done before libc started. */
struct early {
  int socket; /* to cli.sock; the hello has been sent */
  char token[TOKEN + 1];
  uint64_t mask; /* of signals, as it was */
};
/* NULL: nothing was. */
const struct early *early_hello(void);

/* Gives descriptors 0–2 to the helper under a fresh token, which stays empty when that cannot be. The connection is kept for our life. */
void hand_over_descriptors(const char *directory, char token[TOKEN + 1]);
/* Of the first of descriptors 0–2 that is a terminal. */
struct winsize window(void);
/* Writes the frame, if there is a place for it; its length. */
size_t build_hello(uint8_t *to, const char *token, char **argv, char **envp);
void send_all(int socket, const uint8_t *data, size_t n);
/* Is this signal passed on to the command? */
bool forwards_signal(int number);
#endif
