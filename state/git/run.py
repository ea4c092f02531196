"""One `git` command: with a time limit, never asking anybody, and with no secret in what it says."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from state.child import run

SECONDS = 30.0
# Set by a `git` that runs us, as in a hook, these would lead our own commands to its repository; traces tell secrets.
MISLEADING = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_DIR",
    "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE", "GIT_CURL_VERBOSE", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_DATE",
}  # fmt: skip
QUIET = {"LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_EDITOR": "false"}
# No hook of anybody runs: they are written for people at a terminal, and one that refuses would part file and git.
ALWAYS = {"core.hooksPath": os.devnull, "i18n.commitEncoding": "UTF-8", "core.quotePath": "false"}


class GitFailed(Exception):
    """A git command failed. The message is one line, without secrets."""


@dataclass(frozen=True)
class Done:
    status: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace").strip()


@dataclass(frozen=True)
class Git:
    """Runs git in `folder`. `config` and `environment` go along; `secrets` are masked in what is said."""

    folder: Path
    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    async def __call__(
        self, *words: str, stdin: bytes = b"", seconds: float = SECONDS, env: Mapping[str, str] | None = None
    ) -> Done:
        """Runs `git WORDS…`. Raises GitFailed if it fails."""
        done = await self.ask(*words, stdin=stdin, seconds=seconds, env=env)
        if done.status:
            raise GitFailed(f"git {words[0]}: {done.error or f'it ended with {done.status}'}")
        return done

    async def ask(
        self, *words: str, stdin: bytes = b"", seconds: float = SECONDS, env: Mapping[str, str] | None = None
    ) -> Done:
        """The same for a question whose answer may be no. Raises GitFailed if git cannot be run at all."""
        try:
            async with asyncio.timeout(seconds):
                command = ["git", "--no-pager", *words]
                ended = await run(command, stdin=stdin, cwd=self.folder, env=self._environment(env or {}))
        except TimeoutError:
            raise GitFailed(f"git {words[0]} took longer than {seconds:.0f} s (is the remote reachable?)") from None
        except FileNotFoundError as error:
            missing = (
                str(self.folder) if error.filename == str(self.folder) else "git (install it: apt-get install git)"
            )
            raise GitFailed(f"there is no {missing}") from None
        except OSError as error:
            raise GitFailed(f"git cannot be run: {error.strerror}") from None
        return Done(ended.status, ended.out, self.masked(ended.err.decode(errors="replace")))

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in MISLEADING and not k.startswith("GIT_TRACE")}
        return {**inherited, **QUIET, **self.environment, **more, **configured(inherited, {**ALWAYS, **self.config})}

    def masked(self, text: str) -> str:
        """What git said as one line: the part that says why, and none of the secrets."""
        for secret in filter(None, self.secrets):
            text = text.replace(secret, "***")
        text = re.sub(r"(\w+://)[^/@\s]*@", r"\1***@", text)
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("hint:")]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or lines
        return "; ".join(re.sub(r"^(fatal|error): ", "", line) for line in telling[:4])[:500]


def configured(inherited: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """Configuration by the environment, where `ps` does not show it, after what the user gave in the same way."""
    given = inherited.get("GIT_CONFIG_COUNT", "0")
    first = int(given) if given.isdigit() else 0
    env = {"GIT_CONFIG_COUNT": str(first + len(config))}
    for number, (key, value) in enumerate(config.items(), first):
        env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return env
