"""A commit of one file, made of objects: no index, no work tree, so that nothing else can get into it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from state.git.run import Git, GitFailed
from state.origin import Origin

NOBODY = "queue-reconciler"
FILE_MODE = "100644"


@dataclass(frozen=True)
class Listed:
    """An entry of a tree."""

    mode: str
    kind: str  # blob, tree or commit
    oid: str


async def listed(git: Git, tree: str, path: str) -> Listed | None:
    """What is at `path` of a commit or tree; None if nothing is."""
    done = await git.ask("ls-tree", "--full-tree", "-z", tree, "--", path)
    found = done.out.split(b"\0")[0].partition(b"\t")[0].split()
    if done.status:
        raise GitFailed(f"git ls-tree: {done.error}")
    return Listed(*(word.decode() for word in found)) if len(found) == 3 else None


async def make_commit(
    git: Git, parent: str | None, path: str, new: Listed, message: str, author: Origin, *, sign: bool = False
) -> str:
    """A commit on `parent` in which `path` is `new`, and nothing else differs. Moves no branch."""
    tree = f"{parent}^{{tree}}" if parent else None
    made = await with_entry(git, tree, path.split("/"), new)
    signed = ["-S"] if sign or await is_true(git, "commit.gpgSign") else []
    parents = ["-p", parent] if parent else []
    env = await identity(git, author)
    text = message.encode(errors="replace")
    return (await git("commit-tree", *signed, *parents, "-F", "-", made, stdin=text, env=env)).text


async def with_entry(git: Git, tree: str | None, names: list[str], new: Listed) -> str:
    """`tree` with `new` at the path of `names`; folders on the way are made."""
    entries = (await git("ls-tree", "-z", tree)).out.split(b"\0")[:-1] if tree else []
    name, rest = os.fsencode(names[0]), names[1:]
    others = [entry for entry in entries if entry.partition(b"\t")[2] != name]
    if rest:
        inner = next((entry.split(None, 3) for entry in entries if entry.partition(b"\t")[2] == name), None)
        below = inner[2].partition(b"\t")[0].decode() if inner and inner[1] == b"tree" else None
        new = Listed("040000", "tree", await with_entry(git, below, rest, new))
    line = f"{new.mode} {new.kind} {new.oid}\t".encode() + name
    return (await git("mktree", "-z", "--missing", stdin=b"\0".join([*others, line, b""]))).text


async def is_true(git: Git, key: str) -> bool:
    return (await git.ask("config", "--type=bool", key)).text == "true"


async def identity(git: Git, author: Origin) -> Mapping[str, str]:
    """The author is the caller, the committer who git is configured for; where there is none, it is us."""
    host = re.sub(r"[^\w.-]", "", socket.gethostname()) or "localhost"
    env = {}
    if (await git.ask("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")).status:
        env = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in us(host).items()}
    if (name := author.name) and re.search(r"\w", name):
        login = re.sub(r"[^\w.+-]+", ".", name, flags=re.ASCII).strip(".") or "unknown"
        env |= {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": author.mail or f"{login}@{host}"}
    return env


def us(host: str) -> dict[str, str]:
    return {"NAME": NOBODY, "EMAIL": f"{NOBODY}@{host}"}
