"""Words for what the kernel says in letters, numbers and names of its functions."""

from __future__ import annotations

from task_runner.lib import signals
from task_runner.lib.portrait import Portrait

_STATES = {
    "R": "runs, or waits for a processor",
    "S": "waits",
    "D": "waits in the kernel and cannot be interrupted",
    "T": "is stopped by a signal",
    "t": "is stopped by a debugger",
    "Z": "has ended and has not been waited for",
    "X": "has ended",
    "I": "is idle",
}

#: beginnings of names of kernel functions, the first that fits counts; names differ between versions
_CHANNELS = (
    ("hrtimer_nanosleep", "for a time to pass"),
    ("do_nanosleep", "for a time to pass"),
    ("do_wait", "for a child to end"),
    ("kernel_wait4", "for a child to end"),
    ("pipe_write", "for somebody to read from its pipe"),
    ("pipe_", "for data from a pipe"),
    ("anon_pipe_write", "for somebody to read from its pipe"),
    ("anon_pipe_", "for data from a pipe"),
    ("wait_for_partner", "for somebody to open the other end of a FIFO"),
    ("futex_", "for a lock or another thread"),
    ("ep_poll", "for events"),
    ("do_epoll", "for events"),
    ("poll_schedule", "for events"),
    ("do_poll", "for events"),
    ("do_select", "for events"),
    ("do_sys_poll", "for events"),
    ("inet_csk_accept", "for a connection"),
    ("unix_stream", "for data from a local socket"),
    ("unix_wait", "for a local socket"),
    ("sk_stream_wait_memory", "for the other end of a connection to take data"),
    ("wait_woken", "for a terminal or a connection"),
    ("sk_wait", "for data from a connection"),
    ("__skb_wait", "for data from a connection"),
    ("n_tty_read", "for input from a terminal"),
    ("flock_lock", "for a file lock"),
    ("locks_lock", "for a file lock"),
    ("fcntl_setlk", "for a file lock"),
    ("posix_lock", "for a file lock"),
    ("do_signal_stop", "for a signal to go on"),
    ("do_sigtimedwait", "for a signal"),
    ("sigsuspend", "for a signal"),
    ("sys_pause", "for a signal"),
    ("rpc_", "for a network file system"),
    ("nfs", "for a network file system"),
    ("cifs", "for a network file system"),
    ("request_wait_answer", "for a file system in user space"),
    ("fuse_", "for a file system in user space"),
    ("io_schedule", "for a disk"),
    ("folio_wait", "for a disk"),
    ("wait_on_page", "for a disk"),
    ("wait_on_buffer", "for a disk"),
    ("jbd2_", "for a disk"),
    ("blkdev_", "for a disk"),
)

_SIGNALS = {
    "SIGABRT": "it ended itself because something was wrong",
    "SIGBUS": "a memory access that the machine could not carry out",
    "SIGFPE": "an impossible calculation",
    "SIGILL": "an instruction that the processor does not know",
    "SIGSEGV": "an access to memory that is not its own",
    "SIGSYS": "a system call that is not allowed",
    "SIGPIPE": "it wrote where nobody reads any more",
    "SIGXCPU": "its limit of processor time",
    "SIGXFSZ": "its limit of file size",
    "SIGKILL": "ended at once by another process or by the kernel, which does that when memory runs out",
    "SIGTERM": "asked to end",
    "SIGINT": "asked to end, as by Ctrl-C",
    "SIGHUP": "asked to end, as when a terminal goes",
    "SIGQUIT": "asked to end, as by Ctrl-\\",
    "SIGALRM": "a timer that it had set itself",
}


def state_words(letter: str) -> str:
    """What the state letter of a process means."""
    return _STATES.get(letter, f"is in state {letter}")


def channel_words(channel: str | None) -> str | None:
    """What a process waits for that is in this function of the kernel; none where that is not known."""
    name = channel or ""
    return next((words for begin, words in _CHANNELS if name.startswith(begin)), None)


def process_words(portrait: Portrait) -> str:
    """One sentence."""
    who = f"Process {portrait.pid} ({portrait.name})"
    waits = channel_words(portrait.wait_channel)
    if portrait.frozen:
        return f"{who} is frozen, with everything of the task."
    where = f"state {portrait.state}" + (f", {portrait.wait_channel}" if portrait.wait_channel else "")
    if portrait.state in "SD" and waits is not None:
        within = "waits in the kernel" if portrait.state == "D" else "waits"
        return f"{who} {within} {waits} ({where})."
    return f"{who} {state_words(portrait.state)} ({where})."


def ending_words(exit_code: int | None, signal: str | None) -> str | None:
    """What an exit code or a signal means; none where it means what the command says."""
    if signal is not None:
        return _SIGNALS.get(signal)
    if exit_code == 126:
        return "what a shell says of a command that is there and cannot be run"
    if exit_code == 127:
        return "what a shell says of a command that it cannot find"
    if exit_code is not None and 128 < exit_code <= 128 + 31:
        return f"what a shell says of a command that {signals.name_of(exit_code - 128)} has ended"
    return None


def span(seconds: float) -> str:
    """12 s, 5 min, 3 h 20 min, 2 days 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    days = whole // 86_400
    return f"{days} day{'' if days == 1 else 's'} {whole % 86_400 // 3600} h"
