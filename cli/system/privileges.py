"""Drop root's privileges in a child process: PostgreSQL refuses to run as root.

Adds no user and changes no directory's permissions. These functions run between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
LINUX_CAPABILITY_VERSION_3 = 0x20080522
OVERFLOW_ID = 65534


@dataclass(frozen=True, slots=True)
class Privilege:
    """A way to run without root's privileges.

    Attributes:
        prepare: runs in the child before exec; `None` if there is nothing to drop.
        owner: uid and gid of the server's files.
    """

    prepare: Callable[[], None] | None
    owner: tuple[int, int]


def as_ourselves() -> Privilege:
    """Keep the present identity."""
    return Privilege(None, (os.geteuid(), os.getegid()))


def in_user_namespace() -> Privilege:
    """Map this user to `nobody` in a user namespace; files keep their owner."""
    return Privilege(_enter_user_namespace, (os.geteuid(), os.getegid()))


def as_nobody() -> Privilege:
    """Become `nobody`, with only the capability to reach files in closed directories."""
    try:
        entry = pwd.getpwnam("nobody")
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        uid, gid = OVERFLOW_ID, OVERFLOW_ID
    return Privilege(lambda: _become(uid, gid), (uid, gid))


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{OVERFLOW_ID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{OVERFLOW_ID} {gid} 1")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _become(uid: int, gid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setgid(gid)
    # Without this bit, setuid clears every capability.
    _checked(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "securebits")
    os.setuid(uid)
    header = _CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_OVERRIDE
    sets = (_CapabilitySets * 2)(_CapabilitySets(bit, bit, bit), _CapabilitySets(0, 0, 0))
    _checked(libc.capset(ctypes.byref(header), ctypes.byref(sets)), "capset")
    raised = libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
    _checked(raised, "ambient capability")


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)
