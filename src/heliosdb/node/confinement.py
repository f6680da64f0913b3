"""What the training process cannot do any more once it is confined: by Landlock and by a seccomp filter.

What always holds: neither needs a privilege, both hold for all that the process starts afterwards, and
neither can be taken back. Landlock (landlock(7)) leaves it the files of its code and of its libraries, to
read, and its scratch directory; it can neither look into nor signal another process. The filter (seccomp(2))
leaves it no socket, no other program, no namespace, and none of the ways around these. What the machine's
kernel does not have is said, and what is in force is what was asked of the kernel and granted.

Landlock binds the thread that asks and those that it starts: this is for a process that has no other yet.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

SCRATCH = "HELIOSDB_SCRATCH"
"""Of the environment: the directory for what does not fit into memory."""

CONFINEMENT = "HELIOSDB_CONFINEMENT"
"""Of the environment: `off`, or it is not there."""

ConfinementWish = Literal["available", "required", "off"]

_BY_STRICTNESS: tuple[ConfinementWish, ...] = ("off", "available", "required")

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""The same on every architecture that has them."""

_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 38, 4

_CAPABILITY_VERSION = 0x20080522

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_KNOWN_BY_VERSION = ((1, 13), (2, 14), (3, 15), (5, 16))
"""From which version on so many rights of the file system are known."""

_TCP_FROM, _TCP = 4, 0b11
_SCOPES_FROM, _SCOPES = 6, 0b11
"""Connections to abstract sockets, and signals, beyond what is confined with it."""

_READABLE = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
)
"""Of the system: libraries, and what numerical ones look at to find out on what machine they run."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/nvidia*")

_FORBIDDEN = (
    # Other machines and processes.
    "socket", "connect", "bind", "listen", "accept", "accept4", "io_uring_setup",
    "kill", "tkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setpriority",
    "ioprio_set", "migrate_pages", "process_madvise", "process_mrelease",
    # Other programs, and what other processes hold.
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp",
    # What Landlock leaves of files: rights, owners, times, attributes, and in old kernels their length.
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "truncate",
    "utime", "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr", "removexattr",
    "lremovexattr", "fremovexattr", "setxattrat", "removexattrat", "file_setattr",
    # Files by another way than their path; other roots and namespaces.
    "open_by_handle_at", "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "fsopen",
    "open_tree", "move_mount", "mount_setattr",
    # The kernel itself, and its keys.
    "bpf", "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl", "init_module",
    "finit_module", "kexec_load", "quotactl", "swapon", "reboot", "acct",
)  # fmt: skip

_OF_ITSELF_ALONE = ("prlimit64", "sched_setscheduler", "sched_setattr", "sched_setparam", "move_pages")
"""Calls whose first argument is a process: 0, the one that calls.

sched_setaffinity is none of them: the threads of its libraries are bound to the node's max_cpu_cores by their
numbers. On which processors other processes of the same user run stays within its reach.
"""

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_TSYNC = 4
_SECCOMP_LIBRARY = "libseccomp.so.2"


class _Comparison(ctypes.Structure):
    """scmp_arg_cmp of libseccomp: an argument's place, how it compares, and with what."""

    _fields_ = (
        ("place", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
    )


_NOT_EQUAL = 1


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in force. landlock: the version of the kernel's Landlock; seccomp: whether there is a filter.

    0, False: none; `why` says why.
    """

    landlock: int = 0
    seccomp: bool = False
    why: str = ""

    @classmethod
    def from_json(cls, raw: bytes) -> Confinement:
        """Read what `to_json` wrote; ValueError for anything else."""
        told = json.loads(raw)
        return cls(int(told["landlock"]), bool(told["seccomp"]), str(told["why"]))

    def to_json(self) -> bytes:
        """Write it."""
        return json.dumps(asdict(self)).encode()

    @property
    def is_whole(self) -> bool:
        """Whether both are."""
        return self.landlock > 0 and self.seccomp

    def __str__(self) -> str:
        """Say it in words."""
        files = f"files of its own alone (Landlock {self.landlock})" if self.landlock else "all files"
        calls = "no sockets, no programs (seccomp)" if self.seccomp else "sockets and programs"
        return f"{files}, {calls}" + (f"; {self.why}" if self.why else "")


UNCONFINED = Confinement(why="confinement = 'off'")
WITH_WORKERS = Confinement(why="an engine's workers are reached over the network")


def strictest(wishes: Iterable[ConfinementWish]) -> ConfinementWish:
    """Return the strictest of what is wished for one process that several share."""
    return max(wishes, key=_BY_STRICTNESS.index)


def set_limits(memory_bytes: int | None, open_files: int = 256) -> None:
    """Bound memory and open files for the life of this process, and leave no core behind, which would hold
    rows."""
    # Of 0 bytes a core is still handed to a program that kernel.core_pattern names (core(5)); of 1 to nobody
    # (fs/coredump.c), and no file is written that is smaller than a page.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def confine(scratch: str | None) -> Confinement:
    """Confine this process for the rest of its life, as far as the machine can; what is in force then.

    scratch: the directory that it may write in.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Confinement(why="the kernel grants no_new_privs to nobody")
    # A daemon that runs as root can do what no file's rights forbid.
    libc.capset(struct.pack("<Ii", _CAPABILITY_VERSION, 0), bytes(24))
    # Nor may another process of the same user look into this one, which holds rows.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    version, no_landlock = _restrict_files(libc, scratch)
    no_seccomp = _refuse_calls()
    return Confinement(version, not no_seccomp, "; ".join(filter(None, (no_landlock, no_seccomp))))


def foresee(wish: ConfinementWish, *, has_workers: bool) -> Confinement:
    """Return what will be in force of a training process by its node's settings. has_workers: whether an
    engine's workers hold the rows."""
    if has_workers:
        return WITH_WORKERS
    return UNCONFINED if wish == "off" else try_out()


def try_out() -> Confinement:
    """Return what would be in force, as a process finds that is confined for it."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writes, confine(None).to_json())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        found = told.read()
    os.waitpid(pid, 0)
    return Confinement.from_json(found)


def _restrict_files(libc: Any, scratch: str | None) -> tuple[int, str]:
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return 0, f"Landlock: {os.strerror(ctypes.get_errno())}"
    known = next(rights for first, rights in reversed(_KNOWN_BY_VERSION) if version >= first)
    handled = (1 << known) - 1
    tcp = _TCP if version >= _TCP_FROM else 0
    scopes = _SCOPES if version >= _SCOPES_FROM else 0
    asked = struct.pack("<QQQ", handled, tcp, scopes)[: 8 if not tcp else 24 if scopes else 16]
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0)
    if ruleset < 0:
        return 0, f"Landlock: {os.strerror(ctypes.get_errno())}"
    try:
        for path in _readable():
            _allow(libc, ruleset, path, handled & (_READ_FILE | _READ_DIR))
        for pattern in _DEVICES:
            for device in Path("/").glob(pattern[1:]):
                _allow(libc, ruleset, str(device), handled & (_READ_FILE | _WRITE_FILE))
        if scratch is not None:
            own = _READ_FILE | _READ_DIR | _WRITE_FILE | _MAKE_REG | _REMOVE_FILE | _TRUNCATE
            _allow(libc, ruleset, scratch, handled & own)
        if libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
            return 0, f"Landlock: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return int(version), ""


def _readable() -> Iterable[str]:
    """Where code and libraries lie."""
    linked = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    # What is everything is nobody's: a daemon may have been started in the root directory.
    return [path for path in dict.fromkeys((*_READABLE, *sys.path, *linked)) if path not in ("", "/")]


def _allow(libc: Any, ruleset: int, path: str, rights: int) -> None:
    """Allow what is beneath a path, or itself; nothing where there is none."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not Path(path).is_dir():
            rights &= _OF_FILES
        libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", rights, place), 0)
    finally:
        os.close(place)


def _refuse_calls() -> str:
    """Have the kernel refuse what is forbidden, in all threads; why it cannot, or "" where it does."""
    try:
        library = ctypes.CDLL(_SECCOMP_LIBRARY, use_errno=True)
    except OSError:
        return f"seccomp: {_SECCOMP_LIBRARY} is not installed"
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison),
    ]  # fmt: skip
    for name in ("seccomp_load", "seccomp_release"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    filtered = library.seccomp_init(_ALLOW)
    if not filtered:
        return "seccomp: no filter can be made"
    try:
        library.seccomp_attr_set(filtered, _TSYNC, 1)
        for name in _FORBIDDEN:
            number = library.seccomp_syscall_resolve_name(name.encode())
            # Below zero: this architecture has none of that name.
            if number >= 0 and library.seccomp_rule_add(filtered, _REFUSE, number, 0) != 0:
                return f"seccomp: {name} cannot be refused"
        # abort() sends itself a signal.
        for name, own in (*((name, 0) for name in _OF_ITSELF_ALONE), ("tgkill", os.getpid())):
            number = library.seccomp_syscall_resolve_name(name.encode())
            other = _Comparison(0, _NOT_EQUAL, own, 0)
            if number >= 0 and library.seccomp_rule_add_array(filtered, _REFUSE, number, 1, other) != 0:
                return f"seccomp: {name} cannot be refused"
        wrong = library.seccomp_load(filtered)
    finally:
        library.seccomp_release(filtered)
    return f"seccomp: {os.strerror(-wrong)}" if wrong else ""
