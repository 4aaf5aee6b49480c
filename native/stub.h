/* What the stubs share: `wherry` (stub.c) and the OCI runtime's (warm.c). docs/stub-protocol.md has the bytes. */
#ifndef WHERRY_STUB_H
#define WHERRY_STUB_H
#include <limits.h>
#include <stdint.h>

enum { HELLO = 1, STDIN = 2, STDIN_EOF = 3, SIGNAL = 4, WINCH = 5, FROM_LAUNCHER = 6, LAUNCHER_END = 7 };
enum { STDOUT = 16, STDERR = 17, READ_STDIN = 18, RAW = 19, EXIT = 20, EXEC_NODE = 21, LAUNCHER = 22, TO_LAUNCHER = 23, DROP_LAUNCHER = 24 };
enum { STUB_HEAD = 5, LOST = 125 };

/* The host that the environment names; NULL = the default. */
const char *environment_host(void);
/* The directory of the daemon's sockets; nonzero when the host is not a unix socket. */
int socket_directory(const char *host, char directory[PATH_MAX]);
/* Connects; -1 when nobody listens there. */
int connect_to(const char *directory, const char *name);
/* Sends the first frame; `token` names the descriptors that the helper has been given, or is empty. */
void send_hello(int socket, const char *token, char **argv);
void send_frame(int socket, uint8_t type, const void *payload, uint32_t n);

/* The OCI runtime's command line, computed by a warm daemon; returns when there is none, or none that sees the machine as we do. */
void run_warm(char **argv);
#endif
