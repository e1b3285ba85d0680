#!/usr/bin/env python3
"""Counts the instructions that a program executes between marks, by stepping over them one by one.

    count.py PROGRAM ARGUMENT...

A mark is the signal USR1 that the program sends to itself; the program never gets it. Every other mark begins a stretch
that counts, every other one ends it. What the first stretch has is the marks' own cost and taken off each of the others.
Prints the sum of these. Works where there are no performance counters (virtual machines), at some 100,000 instructions per
second.
"""

import ctypes
import os
import signal
import sys

TRACE_ME, CONTINUE, SINGLE_STEP = 0, 7, 9

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def trace(request, pid):
    if libc.ptrace(request, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def run(arguments):
    pid = os.fork()
    if pid == 0:
        trace(TRACE_ME, 0)
        os.execv(arguments[0], arguments)
    os.waitpid(pid, 0)
    return pid


def count(pid):
    """The steps of every stretch."""
    stretches, steps = [], None
    while True:
        trace(CONTINUE if steps is None else SINGLE_STEP, pid)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            if status != 0:
                sys.exit(f"the program failed: {status}")
            return stretches
        if os.WSTOPSIG(status) == signal.SIGUSR1:
            if steps is None:
                steps = 0
            else:
                stretches.append(steps)
                steps = None
        elif steps is not None:
            steps += 1


def main():
    stretches = count(run(sys.argv[1:]))
    if len(stretches) < 2:
        sys.exit("the program set no marks")
    print(sum(stretches[1:]) - stretches[0] * (len(stretches) - 1))


main()
