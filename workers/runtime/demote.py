"""What a forked child does to itself before it is a worker: priority, cores, rlimits, and another user."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Callable, Iterable, Mapping

_ROOT = "only root may: run the daemon as root, or leave it out"


def demote(
    nice: int | None = None,
    cpu_affinity: Iterable[int] = (),
    user: str | None = None,
    rlimits: Mapping[str, int] | None = None,
) -> None:
    """Put this process under the limits for good; all of them are kept by what it starts.

    `rlimits`: by the kernel's name in small letters, such as nofile. `user`: a name or a number. Raises
    OSError if the system refuses, ValueError if there is no such user, core or rlimit; both say what and why.
    """
    account = _account(user) if user else None
    numbers = {name: rlimit(name) for name in rlimits or {}}
    for name, value in (rlimits or {}).items():
        _try(f"rlimit {name} {value}", lambda n=numbers[name], v=value: resource.setrlimit(n, (v, v)))  # type: ignore[misc]
    if nice is not None:
        _try(f"nice {nice}", lambda: os.setpriority(os.PRIO_PROCESS, 0, nice))
    if cores := tuple(cpu_affinity):
        _try(f"cpu_affinity {list(cores)}", lambda: os.sched_setaffinity(0, cores))
    if account:
        _become(account)


def rlimit(name: str) -> int:
    """The number of an rlimit. Raises ValueError that lists the names."""
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if number is None:
        known = sorted(key[7:].lower() for key in dir(resource) if key.startswith("RLIMIT_"))
        raise ValueError(f"there is no rlimit {name} (one of {', '.join(known)})")
    return int(number)


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isascii() and user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise ValueError(f"there is no user {user} (add it to this machine, or correct `user`)") from None


def _become(account: pwd.struct_passwd) -> None:
    name, uid, gid = account.pw_name, account.pw_uid, account.pw_gid
    if (os.getuid(), os.geteuid()) != (uid, uid) or uid == 0:
        _try(f"user {name}", lambda: os.initgroups(name, gid))
        _try(f"user {name}", lambda: os.setresgid(gid, gid, gid))
        _try(f"user {name}", lambda: os.setresuid(uid, uid, uid))
    os.environ.update({"HOME": account.pw_dir, "USER": name, "LOGNAME": name, "SHELL": account.pw_shell})


def _try(what: str, change: Callable[[], None]) -> None:
    try:
        change()
    except PermissionError as error:
        raise OSError(f"{what} is not permitted ({_ROOT})") from error
    except OSError as error:
        raise OSError(f"{what} is refused: {error.strerror}") from error
    except (
        ValueError,
        OverflowError,
    ) as error:  # setrlimit above the hard limit, without the right to; a core that cannot be
        raise ValueError(f"{what} is refused: {error}") from error
