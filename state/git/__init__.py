"""Git, as the `git` program does it: a work tree that the file lies in, and a remote repository that is followed."""

from state.git.clone import BranchGone, Clone, Moved, NotThere, PushRefused, Unsigned
from state.git.run import Git, GitFailed
from state.git.worktree import CannotCommit, DoesNotApply, WorkTree

__all__ = [
    "BranchGone",
    "CannotCommit",
    "Clone",
    "DoesNotApply",
    "Git",
    "GitFailed",
    "Moved",
    "NotThere",
    "PushRefused",
    "Unsigned",
]
__all__ += ["WorkTree"]
