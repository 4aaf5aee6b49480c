/* The json-file log, byte for byte as Docker writes it: one JSON object per line, Go's escapes, lines split at 16 KiB, rotation by size and count.
 * @see moby daemon/logger/copier.go, jsonlog/jsonlogbytes.go, loggerutils/logfile.go */
#include "monitor.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

enum { LINE = 16 << 10, OUT_SIZE = 16 << 10, ENTRY_TAIL = 96 };

static struct {
  int fd;
  uint64_t size, max_bytes;
  uint32_t max_files;
  bool hold, exact;
  uint16_t n_attrs;
  char path[1024], attrs[MAX_ATTRS + 1];
  size_t n; /* bytes in out */
  bool dirty;
  struct {
    size_t n;      /* bytes of an unfinished line */
    bool partial;  /* the line began in an earlier entry */
    char time[40]; /* of its first entry */
  } stream[2];
} L = {.fd = -1};
_Alignas(4096) static uint8_t line[2][LINE];
_Alignas(4096) static char out[OUT_SIZE];

static void open_file(int flags) {
  struct stat st;
  L.fd = fd_high(open(L.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0640));
  L.size = L.fd >= 0 && fstat(L.fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

int log_open(const struct launch *l) {
  if (l->log_path.n >= sizeof L.path) return errno = ENAMETOOLONG, -1;
  strcpy(L.path, l->log_path.p);
  strcpy(L.attrs, l->log_attrs.p);
  L.n_attrs = (uint16_t)l->log_attrs.n;
  L.max_bytes = l->log_max_bytes;
  L.max_files = l->log_max_files;
  L.hold = l->log_flags & LOG_HOLD;
  L.exact = l->log_flags & LOG_EXACT;
  open_file(0);
  return L.fd < 0 ? -1 : 0;
}

void log_flush(void) {
  if (L.n == 0) return;
  /* A full disk loses log entries, never the container: the next write may succeed again. */
  if (L.fd >= 0 && write_all(L.fd, out, L.n) < 0) L.dirty = true;
  L.n = 0;
}

static void numbered(char *to, uint32_t n, const char *ending) {
  char *p = stpcpy(to, L.path);
  if (n > 0) {
    *p++ = '.';
    p = put_decimal(p, n);
    *p = 0;
  }
  strcpy(p, ending);
}

static const char *const endings[] = {"", ".gz"}; /* a rotated file has one of both names */

/* The file that a rotation throws away is not marked as fetched (by taking its write permission: who fetches it does that when it has all of it). */
static bool is_full(void) {
  char oldest[sizeof L.path + 16];
  struct stat st;
  if (!L.hold || L.max_bytes == 0 || L.size < L.max_bytes) return false;
  numbered(oldest, L.max_files - 1, "");
  return lstat(oldest, &st) == 0 && st.st_mode & S_IWUSR;
}

/* path → path.1 → path.2 …; the oldest goes. With one file it is emptied. */
static void rotate(void) {
  char from[sizeof L.path + 16], to[sizeof L.path + 16];
  log_flush();
  if (L.fd >= 0) close(L.fd);
  for (uint32_t i = L.max_files; i-- > 1;)
    for (int e = 0; e < 2; e++) {
      numbered(from, i - 1, endings[e]);
      numbered(to, i, endings[e]);
      if (i == L.max_files - 1) unlink(to);
      rename(from, to);
    }
  open_file(L.max_files < 2 ? O_TRUNC : 0);
}

bool log_held(void) { return L.hold && L.size >= L.max_bytes && is_full(); }

int log_packed(struct reader payload) {
  char packed[sizeof L.path + 16], from[sizeof L.path + 16], to[sizeof L.path + 16];
  struct stat st;
  uint64_t inode;
  if (read_u64(&payload, &inode) || left(&payload)) return EBADMSG;
  numbered(packed, 0, ".gz.tmp");
  for (uint32_t i = 1; i < L.max_files; i++) {
    numbered(from, i, "");
    if (lstat(from, &st) < 0 || st.st_ino != inode) continue;
    numbered(to, i, ".gz");
    return rename(packed, to) < 0 || unlink(from) < 0 ? errno : 0;
  }
  unlink(packed); /* it was thrown away meanwhile */
  return ENOENT;
}

static void put(const char *text, size_t n) {
  while (n > 0) {
    if (L.n == OUT_SIZE) log_flush();
    size_t part = n < OUT_SIZE - L.n ? n : OUT_SIZE - L.n;
    memcpy(out + L.n, text, part);
    L.n += part;
    L.size += part;
    text += part;
    n -= part;
  }
}

/* Length of the UTF-8 sequence at p as Go decodes it (no surrogates, nothing overlong); 0 when invalid. */
static size_t rune_length(const uint8_t *p, size_t n) {
  uint8_t a = p[0], low = 0x80, high = 0xbf;
  size_t length;
  if (a >= 0xc2 && a <= 0xdf) {
    length = 2;
  } else if (a >= 0xe0 && a <= 0xef) {
    length = 3;
    if (a == 0xe0) low = 0xa0;
    if (a == 0xed) high = 0x9f;
  } else if (a >= 0xf0 && a <= 0xf4) {
    length = 4;
    if (a == 0xf0) low = 0x90;
    if (a == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (n < length || p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < length; i++)
    if ((p[i] & 0xc0) != 0x80) return 0;
  return length;
}

static inline bool is_plain(uint8_t c) {
  return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

static const char hex[] = "0123456789abcdef";

char *json_escape(char *to, const uint8_t *p, size_t n, bool exact) {
  const uint8_t *end = p + n;
  while (p < end) {
    const uint8_t *start = p;
    while (p < end && is_plain(*p)) p++;
    memcpy(to, start, (size_t)(p - start));
    to += p - start;
    if (p == end) break;
    uint8_t c = *p;
    if (c < 0x80) {
      p++;
      *to++ = '\\';
      if (c == '"' || c == '\\') *to++ = (char)c;
      else if (c == '\n') *to++ = 'n';
      else if (c == '\r') *to++ = 'r';
      else {
        memcpy(to, "u00", 3);
        to[3] = hex[c >> 4];
        to[4] = hex[c & 15];
        to += 5;
      }
      continue;
    }
    size_t length = rune_length(p, (size_t)(end - p));
    if (length == 0) {
      memcpy(to, exact ? "\\udc" : "\\uff", 4); /* 80 to ff: the code points that no text has */
      to[4] = exact ? hex[c >> 4] : 'f';
      to[5] = exact ? hex[c & 15] : 'd';
      to += 6;
      p++;
    } else if (length == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] & 0xfe) == 0xa8) { /* U+2028, U+2029 */
      memcpy(to, "\\u202", 5);
      to[5] = hex[p[2] & 15];
      to += 6;
      p += 3;
    } else {
      memcpy(to, p, length);
      to += length;
      p += length;
    }
  }
  return to;
}

/* Escapes in pieces, so that an entry of any size passes through the small buffer. A piece never cuts a valid sequence. */
static void put_escaped(const uint8_t *p, size_t n) {
  while (n > 0) {
    if (OUT_SIZE - L.n < 6 * 64) log_flush();
    size_t part = (OUT_SIZE - L.n) / 6;
    if (part >= n) part = n;
    else
      for (size_t back = 0; back < 3 && part > back; back++) { /* up to 3 bytes before may begin a sequence that goes on */
        size_t at = part - 1 - back;
        if ((p[at] & 0xc0) == 0x80) continue;
        if (p[at] >= 0xc0 && at + rune_length(p + at, n - at) > part) part = at;
        break;
      }
    char *end = json_escape(out + L.n, p, part, L.exact);
    L.size += (uint64_t)(end - (out + L.n));
    L.n = (size_t)(end - out);
    p += part;
    n -= part;
  }
}

/* RFC 3339 in UTC with nanoseconds, trailing zeros dropped. */
static void format_time(char text[40]) {
  static time_t cached = -1;
  static char date[24];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != cached) {
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    cached = now.tv_sec;
  }
  char *p = stpcpy(text, date);
  if (now.tv_nsec > 0) {
    long rest = now.tv_nsec;
    *p++ = '.';
    for (long unit = 100000000; rest > 0; unit /= 10) {
      *p++ = (char)('0' + rest / unit);
      rest %= unit;
    }
  }
  strcpy(p, "Z");
}

static void entry(int stream, const uint8_t *data, size_t n, bool newline) {
  char time[40];
  if (L.max_bytes > 0 && L.size >= L.max_bytes && !is_full()) rotate();
  if (L.stream[stream].partial) {
    strcpy(time, L.stream[stream].time);
  } else {
    format_time(time);
    if (!newline) strcpy(L.stream[stream].time, time);
  }
  L.stream[stream].partial = !newline;
  put("{\"log\":\"", 8);
  put_escaped(data, n);
  char tail[ENTRY_TAIL], *p = tail;
  if (newline) p = stpcpy(p, "\\n");
  p = stpcpy(p, stream == OUT ? "\",\"stream\":\"stdout\"" : "\",\"stream\":\"stderr\"");
  put(tail, (size_t)(p - tail));
  if (L.n_attrs > 0) put(L.attrs, L.n_attrs);
  p = stpcpy(tail, ",\"time\":\"");
  p = stpcpy(p, time);
  p = stpcpy(p, "\"}\n");
  put(tail, (size_t)(p - tail));
}

void log_feed(int stream, const uint8_t *data, size_t n) {
  if (L.path[0] == 0) return;
  L.dirty = true;
  size_t *have = &L.stream[stream].n;
  while (n > 0) {
    const uint8_t *newline = memchr(data, '\n', n);
    size_t part = newline ? (size_t)(newline - data) : n;
    if (*have == 0 && newline && part < LINE) {
      entry(stream, data, part, true);
    } else if (*have == 0 && part >= LINE) {
      entry(stream, data, part = LINE, false);
      newline = NULL;
    } else {
      size_t room = LINE - *have;
      if (part >= room) newline = NULL;
      if (part > room) part = room;
      memcpy(line[stream] + *have, data, part);
      *have += part;
      if (newline || *have == LINE) {
        entry(stream, line[stream], *have, newline != NULL);
        *have = 0;
      }
    }
    size_t used = part + (newline ? 1 : 0);
    data += used;
    n -= used;
  }
}

void log_end(int stream) {
  if (L.stream[stream].n > 0) entry(stream, line[stream], L.stream[stream].n, false);
  L.stream[stream].n = 0;
  log_flush();
}

void log_idle(void) {
  if (!L.dirty) return;
  log_flush();
  madvise(out, sizeof out, MADV_DONTNEED);
  if (L.stream[OUT].n == 0) madvise(line[OUT], LINE, MADV_DONTNEED);
  if (L.stream[ERR].n == 0) madvise(line[ERR], LINE, MADV_DONTNEED);
  L.dirty = false;
}
