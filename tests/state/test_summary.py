"""The line that a commit and the history say of an edit."""

from __future__ import annotations

import pytest

from state.reader import parse
from state.summary import SUBJECT, summarize

HEAD = "version: 1\nqueues:\n"


def said(before: str, after: str) -> str:
    return summarize(parse((HEAD + before).encode()), parse((HEAD + after).encode()))


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (
            "  emails: {workers: {send_email: 2}}",
            "  emails: {workers: {send_email: 5}}",
            "scale emails/send_email 2 → 5",
        ),
        ("  a: {}", "  a: {workers: {w: 3}}", "scale a/w 0 → 3"),
        ("  a: {workers: {w: 3}}", "  a: {}", "remove worker a/w"),
        (
            "  a: {workers: {w: {autoscale: {max: 3, backlog: 10}}}}",
            "  a: {workers: {w: 3}}",
            "scale a/w 1 → 3; change a/w: autoscale",
        ),
        ("  a: {}", "  a: {}\n  b: {}", "create queue b"),
        ("  a: {}\n  b: {}", "  b: {}", "delete queue a"),
        ("  a: {}", "  a: {paused: true}", "pause a"),
        ("  a: {}", "  a: {paused: {reason: the server moves}}", "pause a: the server moves"),
        ("  a: {paused: true}", "  a: {}", "resume a"),
        ("  a: {}", "  a: {type: quorum}", "change queue a: type classic → quorum"),
        ("  a: {}", "  a: {dead_letter: d}", "change queue a: dead_letter none → d"),
        ("  a: {workers: {w: {grace: 5}}}", "  a: {workers: {w: {grace: 7.5}}}", "change a/w: grace 5 → 7.5"),
        ("  a: {}", "  a: {} # why", "edit comments and layout"),
        ("  a: {}", '  a: {}\n  "x\\u2028y": {}', "create queue 'x\\u2028y'"),
    ],
)
def test_one_change_is_one_line(before: str, after: str, line: str) -> None:
    assert said(before, after) == line


def test_what_may_be_a_secret_is_named_and_not_shown() -> None:
    before, after = "  a: {workers: {w: {env: {K: hush}}}}", "  a: {workers: {w: {env: {K: psst}}}}"
    assert said(before, after) == "change a/w: env"


def test_many_changes_are_counted_in_a_line_and_listed_under_it() -> None:
    after = "".join(f"  q{n}: {{}}\n" for n in range(100))
    subject, blank, *body = said("  q0: {}", after).split("\n")
    assert subject == "create queue q1, and 98 more"
    assert len(subject) <= SUBJECT
    assert blank == ""
    assert body[0] == "- create queue q1"
    assert body[-1] == "- and 49 more"
