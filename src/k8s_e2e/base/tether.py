"""A program on a tether: it ends, with all that it started, when the process that asked for it ends in whatever way.

A script to be run (`process.run` does, with ``tethered``), not to be imported. It stays between the two, in the
program's process group: the kernel tells it when its parent is gone (prctl(2), PR_SET_PDEATHSIG), and it kills the
group. Where there is no such call, the program just runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NOT_STARTED = 127  # as shells have it, and 128 + the signal's number for a program that a signal ended


def _end(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


def _main(parent: int, words: list[str]) -> int:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python's own ways with them are not the program's
        if number != signal.SIGINT or signal.getsignal(number) == signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":  # elsewhere there are no real-time signals either
        gone = signal.SIGRTMIN + 7  # none that a program sends to its own group on purpose, as SIGTERM
        signal.signal(gone, _end)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, gone, 0, 0, 0)
    if os.getppid() != parent:  # gone before the kernel was asked
        _end()
    child = os.fork()
    if child == 0:
        try:
            os.execvp(words[0], words)  # noqa: S606 - the program that was asked for
        except OSError as error:
            sys.stderr.write(f"cannot start {words[0]}: {error.strerror}\n")
            sys.stderr.flush()
            os._exit(_NOT_STARTED)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os._exit(_main(int(sys.argv[1]), sys.argv[2:]))
