/* How long threads other than the main one work without Python's lock.

   Loaded before Python (LD_PRELOAD), it stands before the functions by which extension
   modules release and take the lock, and adds up what CPU time passes in between. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_llong total;
static __thread long long released;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void *PyEval_SaveThread(void) {
    void *(*save)(void) = (void *(*)(void))dlsym(RTLD_NEXT, "PyEval_SaveThread");
    void *state = save();
    released = now();
    return state;
}

void PyEval_RestoreThread(void *state) {
    void (*restore)(void *) = (void (*)(void *))dlsym(RTLD_NEXT, "PyEval_RestoreThread");
    if (released && syscall(SYS_gettid) != getpid()) {
        atomic_fetch_add(&total, now() - released);
    }
    released = 0;
    restore(state);
}

double seconds_without_lock(void) { return total / 1e9; }
