/* Lets one write, rename or sync of files below a folder fail: loaded before the C library (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* EIO once; ENOSPC from then on; the process is killed, half-way; ENOSPC when so many bytes have been written */
enum { ONCE = 0, FULL = 1, KILL = 2, ROOM = 3 };

static long at, count, bytes;
static int kind;
static char below[PATH_MAX];

void fault_arm(long number, int how, const char *folder) {
    strncpy(below, folder, sizeof below - 1);
    kind = how, at = number, count = bytes = 0;
}

long fault_count(void) { return count; }

long fault_bytes(void) { return bytes; }

/* 0, or the error that this call on `path` gives; -1 if the process is to be killed in it. */
static int fault(const char *call, const char *path) {
    if (!below[0] || strncmp(path, below, strlen(below))) return 0;
    long number = __sync_add_and_fetch(&count, 1);
    if (!at || kind == ROOM || !(number == at || (kind == FULL && number > at))) return 0;
    if (number == at) dprintf(2, "fault: %s %s\n", call, path + strlen(below));
    return kind == KILL ? -1 : kind == FULL ? ENOSPC : EIO;
}

/* The path of an open file; empty if it has none. */
static char *path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = below[0] ? readlink(link, path, PATH_MAX - 1) : -1;
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int fault_at(const char *call, int file) {
    char path[PATH_MAX];
    return fault(call, path_of(file, path));
}

/* How many of the bytes of a write there is room for. */
static size_t room(int file, size_t size) {
    char path[PATH_MAX];
    if (!below[0] || strncmp(path_of(file, path), below, strlen(below))) return size;
    long before = __sync_fetch_and_add(&bytes, size);
    if (!at || kind != ROOM || before + (long)size <= at) return size;
    dprintf(2, "fault: full %s\n", path + strlen(below));
    return before < at ? at - before : 0;
}

static size_t total(const struct iovec *data, int parts) {
    size_t size = 0;
    for (int part = 0; part < parts; part++) size += data[part].iov_len;
    return size;
}

static void end(void) { kill(getpid(), SIGKILL), pause(); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(error) do { errno = error; return -1; } while (0)

#define WRITE(name, given, more, half)                                 \
    ssize_t name given {                                               \
        const size_t asked = size;                                     \
        int error = fault_at("write", file);                           \
        if (error < 0) { half; end(); }                                \
        if (error) FAIL(error);                                        \
        size_t fits = room(file, asked);                               \
        if (fits < asked && !(size = fits)) FAIL(ENOSPC);              \
        return REAL(name) more;                                        \
    }

WRITE(write, (int file, const void *data, size_t size), (file, data, size), REAL(write)(file, data, size / 2))
WRITE(pwrite, (int file, const void *data, size_t size, off_t place), (file, data, size, place),
      REAL(pwrite)(file, data, size / 2, place))
WRITE(pwrite64, (int file, const void *data, size_t size, off64_t place), (file, data, size, place),
      REAL(pwrite64)(file, data, size / 2, place))

ssize_t writev(int file, const struct iovec *data, int parts) {
    int error = fault_at("write", file);
    if (error < 0) { REAL(writev)(file, data, parts / 2); end(); }
    if (error || room(file, total(data, parts)) < total(data, parts)) FAIL(error ? error : ENOSPC);
    return REAL(writev)(file, data, parts);
}

#define CHANGE(name, call, given, more)                                \
    int name given {                                                   \
        int error = fault_at(call, file);                              \
        if (error < 0) end();                                          \
        if (error) FAIL(error);                                        \
        return REAL(name) more;                                        \
    }

CHANGE(fsync, "sync", (int file), (file))
CHANGE(fdatasync, "sync", (int file), (file))
CHANGE(ftruncate, "truncate", (int file, off_t size), (file, size))
CHANGE(ftruncate64, "truncate", (int file, off64_t size), (file, size))

int rename(const char *old, const char *new) {
    int error = fault("rename", new);
    if (error < 0) end();
    if (error) FAIL(error);
    return REAL(rename)(old, new);
}

#define OPEN(name, given, more)                                        \
    int name given {                                                   \
        mode_t mode = 0;                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                         \
            va_list rest;                                              \
            va_start(rest, flags);                                     \
            mode = va_arg(rest, mode_t);                               \
            va_end(rest);                                              \
            int error = fault("create", path);                         \
            if (error < 0) end();                                      \
            if (error) FAIL(error);                                    \
        }                                                              \
        return REAL(name) more;                                        \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
