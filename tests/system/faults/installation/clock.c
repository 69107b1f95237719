/* A library for LD_PRELOAD: the wall clock of one process, or of all that load it, steps.
 *
 * FAULTS_CLOCK names a file of 65536 signed 64-bit numbers, nanoseconds that the library adds to
 * the wall clock: the first for every process, each other one for the processes whose id has its
 * number. The monotonic clock does not change, as when a real clock is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 65536
#define SECOND 1000000000LL

static volatile int64_t *offsets;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_offsets(void)
{
    const char *name = getenv("FAULTS_CLOCK");
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, SLOTS * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        offsets = found;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!real_clock_gettime)
        open_offsets();
    int result = real_clock_gettime(clock, now);
    if (result == 0 && offsets && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t offset = offsets[0] + offsets[1 + getpid() % (SLOTS - 1)];
        int64_t whole = now->tv_sec * SECOND + now->tv_nsec + offset;
        now->tv_sec = whole / SECOND;
        now->tv_nsec = whole % SECOND;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out)
        *out = precise.tv_sec;
    return precise.tv_sec;
}
