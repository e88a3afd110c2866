/* spawn_loop COUNT PROCESSES PROGRAM: starts PROGRAM and waits for it, COUNT times in all.
   Prints the seconds it took. The least that any task runner has to do. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *const nothing[] = {NULL};

static int loop(long count, char *program)
{
    char *const argv[] = {program, NULL};
    for (long done = 0; done < count; done++) {
        pid_t pid;
        int status;
        if (posix_spawn(&pid, program, NULL, NULL, argv, nothing) != 0 || waitpid(pid, &status, 0) != pid || status)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    long count = atol(argv[1]), processes = atol(argv[2]);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long each = 0; each < processes; each++)
        if (fork() == 0)
            _exit(loop(count / processes, argv[3]));
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.6f\n", (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
    return failed != 0;
}
