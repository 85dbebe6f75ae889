#pragma once
// What glibc declares only under _GNU_SOURCE, which Swift's Glibc module does not define, and what it hides from Swift.
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

extern int fallocate(int descriptor, int mode, off_t offset, off_t length);
extern char *strptime(const char *restrict text, const char *restrict format, struct tm *restrict fields);
extern int pthread_setname_np(pthread_t thread, const char *name);
extern int sched_getaffinity(pid_t thread, size_t bytes, cpu_set_t *processors);
extern int sched_setaffinity(pid_t thread, size_t bytes, const cpu_set_t *processors);
extern int sync_file_range(int descriptor, off_t offset, off_t length, unsigned int flags);
extern ssize_t preadv2(int descriptor, const struct iovec *pieces, int count, off_t offset, int flags);
enum {
    forebay_FALLOC_FL_KEEP_SIZE = 1,
    forebay_SYNC_FILE_RANGE_WRITE = 2,
    forebay_READ_NOWAIT = 8,
    forebay_EFD_FLAGS = EFD_CLOEXEC | EFD_NONBLOCK,
    forebay_EPOLL_FLAGS = EPOLL_CLOEXEC,
    forebay_INOTIFY_FLAGS = IN_CLOEXEC | IN_NONBLOCK,
    forebay_F_SETSIG = 10,
    forebay_F_SETLEASE = 1024
};
static const uint32_t forebay_EPOLL_READABLE = EPOLLIN;
static const uint32_t forebay_EPOLL_HANG_UP = EPOLLRDHUP | EPOLLET;
static const uint32_t forebay_IN_OPEN = IN_OPEN;
static const uint32_t forebay_IN_MODIFY = IN_MODIFY;
static const uint32_t forebay_IN_RENAMED_OR_TOUCHED = IN_ATTRIB | IN_MOVE_SELF;
static const uint32_t forebay_IN_WRITES = IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF;
static const uint32_t forebay_IN_IGNORED = IN_IGNORED;
static const uint32_t forebay_IN_Q_OVERFLOW = IN_Q_OVERFLOW;
static const uint32_t forebay_IN_MASK_ADD = IN_MASK_ADD;
static const short forebay_POLL_HANG_UP = EPOLLRDHUP;

/// `sched_attr` of sched_setattr(2), which glibc declares only from 2.41 on.
struct forebay_scheduling {
    uint32_t bytes, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_nanoseconds, deadline, period;
};

/// Asks for time slices of that length for the calling thread, but none that it starts. A thread that is not scheduled as usual, or before others, stays as it
/// is: what keeps its children from having the slice would take that from them too.
static inline void forebay_set_time_slice(uint64_t nanoseconds) {
    struct forebay_scheduling now = {0};
    if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) != 0 || now.policy != SCHED_OTHER || now.nice < 0) return;
    now.flags |= 1;  // SCHED_FLAG_RESET_ON_FORK
    now.slice_nanoseconds = nanoseconds;
    syscall(SYS_sched_setattr, 0, &now, 0);
}
