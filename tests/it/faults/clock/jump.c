/* Preloaded into a program, gives it a wall clock that another program sets: it is ahead of the machine's by the seconds in the
 * first eight bytes of the file CLOCK_JUMP. Time that never jumps (CLOCK_MONOTONIC) stays as it is.
 *
 * Who waits on a condition until some time of day waits until this clock shows it, as the kernel would have it after a jump. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int file = -1;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("CLOCK_JUMP");
    if (path) file = open(path, O_RDONLY | O_CLOEXEC);
}

static int64_t jump(void) {
    int64_t seconds = 0;
    int before = errno;
    if (pread(file, &seconds, sizeof seconds, 0) != sizeof seconds) seconds = 0;
    errno = before;
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    if (!failed) *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static int has_come(const struct timespec *until) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > until->tv_sec || (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    *(void **)&wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    while (!has_come(until)) {
        struct timespec soon;
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &soon);
        soon.tv_nsec += 20 * 1000 * 1000;
        soon.tv_sec += soon.tv_nsec / (1000 * 1000 * 1000);
        soon.tv_nsec %= 1000 * 1000 * 1000;
        int ended = wait(cond, mutex, &soon);
        if (ended != ETIMEDOUT) return ended;
    }
    return ETIMEDOUT;
}
