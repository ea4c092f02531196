"""Any bytes are either a desired state or faults that say where and what: nothing else comes out of the reader."""

from __future__ import annotations

import random
from contextlib import suppress
from textwrap import dedent, indent

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from state.desired import Desired
from state.faults import Rejected
from state.reader import BOM, MAX_BYTES, UNUSUAL, Loader, locate, parse, plain_data, revision_of
from tests.state.documents import document
from tests.state.judges import plain

WHOLE = """\
# yaml-language-server: $schema=x
version: 1   # of this format

defaults:
  queue: {type: quorum}
  worker: &w {prefetch: 10, grace: 30}

queues:
  emails:
    workers:
      send_email: 5
      "resize": {command: [node, resize.js], <<: *w}
  'audit':
    type: classic
    durable: true
    arguments: {x-max-length: 100000, x-overflow: reject-publish}
    dead_letter: orders.dead
    on_remove: keep
    workers:
      write:
        count: 0x05
        env: {URL: "postgres://db/ledger", N: 1.5}
"""


def read(text: str | bytes) -> Desired:
    return parse(text if isinstance(text, bytes) else dedent(text).encode())


def faults(text: str | bytes) -> list[str]:
    with pytest.raises(Rejected) as rejected:
        read(text)
    return list(map(str, rejected.value.faults))


def the_fault(text: str | bytes) -> str:
    (fault,) = faults(text)
    return fault


class TestWhereAFaultIs:
    def test_a_value_is_pointed_at_itself(self) -> None:
        text = """\
            version: 1
            queues:
              emails:
                workers: {send: 1}
                type: qourum
            """
        assert the_fault(text).startswith("queues.yaml:5:11: queues.emails.type: 'qourum' is none of")

    def test_an_unknown_key_is_pointed_at_itself_and_names_the_nearest(self) -> None:
        text = """\
            version: 1
            queues:
              emails:
                # a comment
                worker: {send: 1}
            """
        assert the_fault(text) == "queues.yaml:5:5: queues.emails.worker: unknown key 'worker' (did you mean workers?)"

    def test_an_unknown_key_like_no_other_names_all(self) -> None:
        assert the_fault("version: 1\nqueues: {}\nxyzzy: 1\n").endswith(
            "(known are version, defaults, drift, exchanges, queues, policies)"
        )

    def test_every_fault_is_named_in_the_order_of_the_file(self) -> None:
        text = """\
            version: 2
            queues:
              a: {durabel: true}
              b:
                workers: {w: -1}
                arguments:
                  x-max-length: 5
                  x-expires: null
            """
        assert [fault.split(": ")[0] for fault in faults(text)] == [
            "queues.yaml:1:10",
            "queues.yaml:3:7",
            "queues.yaml:5:18",
            "queues.yaml:8:18",
        ]

    def test_a_duplicate_key_says_where_the_first_stands(self) -> None:
        text = "version: 1\nqueues:\n  a: {}\n  b: {}\n  a: {}\n"
        expected = "queues.yaml:5:3: queues.a: duplicate key (it stands in line 3 already; keep one)"
        assert the_fault(text) == expected

    def test_a_duplicate_key_deep_inside_is_found_too(self) -> None:
        assert "yaml:2:32: " in the_fault("version: 1\nqueues: {a: {arguments: {x: 1, x: 2}}}\n")

    def test_keys_that_yaml_makes_something_else_of_are_to_be_quoted(self) -> None:
        found = faults("version: 1\nqueues:\n  on: {}\n  007: {}\n  1.10: {}\n  ~: {}\n  ? [a]\n  : {}\n")
        assert [fault.split(":")[1:3] for fault in found] == [
            ["3", "3"],
            ["4", "3"],
            ["5", "3"],
            ["6", "3"],
            ["7", "5"],
        ]
        assert all("(quote it)" in fault for fault in found)

    def test_a_cut_short_file_points_at_its_end(self) -> None:
        assert the_fault("version: 1\nqueues: {a: {\n").startswith("queues.yaml:3:1: not YAML")

    def test_a_tab_is_called_by_its_name(self) -> None:
        assert "spaces, not tabs" in the_fault("version: 1\nqueues:\n\ta: {}\n")

    def test_a_byte_that_is_no_utf8_is_pointed_at(self) -> None:
        assert the_fault("version: 1\nqueues:\n  ü: ".encode() + b"\xff").startswith("queues.yaml:3:6: this byte")

    def test_a_control_character_is_pointed_at(self) -> None:
        assert the_fault("version: 1\nqueues: {}  # \x07\n").startswith("queues.yaml:2:15: ")

    def test_columns_count_characters_and_a_bom_is_none(self) -> None:
        assert the_fault("\ufeffversion: 2\nqueues: {}\n".encode()).startswith("queues.yaml:1:10: ")
        assert the_fault("version: 1\nqueues: {'é😀': {x: 1}}\n").startswith("queues.yaml:2:17: ")

    def test_windows_line_endings_count_once(self) -> None:
        assert the_fault(b"version: 1\r\nqueues:\r\n  a: 3\r\n").startswith("queues.yaml:3:6: ")

    @pytest.mark.parametrize("value", ["2024-99-01", "!!int x", "!!float x", "!!bool x", "0x_", "9" * 5000])
    def test_a_value_that_yaml_itself_cannot_make_is_pointed_at(self, value: str) -> None:
        text = f"version: 1\nqueues:\n  a:\n    arguments:\n      ok: 1\n      x-y: {value}\n"
        assert the_fault(text).startswith("queues.yaml:6:12: queues.a.arguments.x-y: this value cannot be read")

    def test_what_a_merge_brings_in_is_pointed_at_where_it_is_merged(self) -> None:
        text = "version: 1\nqueues:\n  a: &a {type: quorum}\n  b: {<<: *a, workers: {}, durable: false}\n"
        assert the_fault(text).startswith("queues.yaml:4:3: queues.b: a quorum queue is always durable")

    def test_a_fault_found_later_is_located_in_the_same_way(self) -> None:
        path = ("queues", "emails", "workers", "resize", "[key]")
        assert str(locate(WHOLE.encode(), path, "no module")).startswith(
            "queues.yaml:12:7: queues.emails.workers.resize: no module"
        )

    def test_the_file_is_called_by_its_own_name(self) -> None:
        with pytest.raises(Rejected, match=r"^other\.yaml:1:1: "):
            parse(b"", "other.yaml")


class TestWhatIsNoDesiredState:
    @pytest.mark.parametrize("text", ["", "\n\n", "# only words\n", "~", "---\n"])
    def test_an_empty_file(self, text: str) -> None:
        assert "the file is empty" in the_fault(text)

    @pytest.mark.parametrize("text", ["version: 1\n", "queues: {}\n", "[]", "text", "version: 1\nqueues:\n"])
    def test_a_file_without_what_makes_it_one(self, text: str) -> None:
        assert faults(text)

    @pytest.mark.parametrize("cut", range(len(WHOLE)))
    def test_a_file_cut_short_never_takes_out_everything(self, cut: int) -> None:
        try:
            queues = read(WHOLE[:cut]).queues
        except Rejected:
            return
        assert "emails" in queues, "a shorter file that is valid lists what it lists"

    def test_two_documents(self) -> None:
        assert "queues.yaml:3:1: " in the_fault("version: 1\nqueues: {}\n---\nversion: 1\nqueues: {}\n")

    def test_more_than_a_person_writes(self) -> None:
        assert "at most" in the_fault(b"#" * (MAX_BYTES + 1))

    def test_python_objects(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert "not YAML" in the_fault("version: !!python/object/apply:os.system ['echo hello']\nqueues: {}\n")
        assert capfd.readouterr().out == ""

    def test_a_hex_number_too_long_to_write_down(self) -> None:
        assert "too large" in the_fault(f"version: 1\nqueues: {{a: {{workers: {{w: 0x{'f' * 5000}}}}}}}\n")


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "aliases that write out to billions": bomb(12),
    "aliases that write out to billions, all of them fine arguments": (
        "version: 1\nqueues:\n  q:\n    arguments:\n" + indent(bomb(12), " " * 6)
    ),
    "merges that write out to billions": "z0: &z0 {a: 1}\n"
    + "".join(f"z{n + 1}: &z{n + 1} {{<<: [*z{n}, *z{n}]}}\n" for n in range(40)),
    "a mapping in itself": "version: 1\nqueues: &a {x: *a}\n",
    "a merge of itself": "a: &a\n  <<: *a\n",
    "a list in itself": "version: 1\nqueues: {q: {arguments: {x: &a [*a]}}}\n",
    "a hundred thousand brackets": "[" * 100_000,
    "a hundred thousand braces": "{a: " * 100_000,
    "three thousand indents": "\n".join(" " * n + "a:" for n in range(3000)),
    "no number": "version: 1\nqueues: {q: {workers: {w: {grace: .nan}}}}\n",
    "no end": "version: 1\nqueues: {q: {workers: {w: {grace: .inf}}}}\n",
    "a date": "version: 1\nqueues: {q: {arguments: {x: 2024-01-01}}}\n",
    "bytes": "version: 1\nqueues: {q: {arguments: {x: !!binary aGk=}}}\n",
    "an ordered mapping": "version: 1\nqueues: !!omap [a: {}]\n",
    "half of a surrogate pair": 'version: 1\nqueues: {"\\ud800": {}}\n',
    "a NUL": "version: 1\0\nqueues: {}\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.timeout(60)
def test_hostile_text_is_rejected_and_soon(text: str) -> None:
    assert faults(text.encode())


@pytest.mark.timeout(60)
def test_nesting_that_yaml_takes_ends_in_an_answer_too() -> None:
    for depth in range(50, 1100, 50):
        check(f"version: 1\nqueues: {{q: {{arguments: {{x: {'[' * depth}{']' * depth}}}}}}}\n".encode())


def check(data: bytes) -> None:
    """Whatever the bytes: a desired state, or faults that lie within the text."""
    lines = 1 + sum(data.count(end.encode()) for end in ("\n", "\r", "\x85", "\u2028", "\u2029"))
    found = outcome(data)
    if not isinstance(found, Desired):
        assert found.faults
        assert all(1 <= fault.line <= lines and fault.column >= 1 and fault.message for fault in found.faults)


def outcome(data: bytes) -> Desired | Rejected:
    try:
        return parse(data)
    except Rejected as rejected:
        return rejected


@given(st.binary(max_size=400))
@settings(max_examples=400, deadline=None)
def test_any_bytes(data: bytes) -> None:
    check(data)


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    check(text.encode(errors="surrogatepass"))


PIECES = st.sampled_from(
    ["", ":", "- ", "{", "}", "[", "]", "'", '"', "#", "\t", "\n", "  ", "&w ", "*w", "<<: *w", "!!int ", "!!python/x ",
     "? ", "|\n", ">-\n", "%YAML 1.1\n", "---\n", "...\n", "~", ".nan", ".inf", "2024-13-01", "1:30", "0o7", "010",
     "0x" + "f" * 5000, "9" * 5000, "null", "yes", "\0", "\ufeff", "\x85", "\u2028", "\\ud800", "workers: ", "queues: ",
     "type: ", "amq.x: {}", "=", "1e400", "-", "\r", "x" * 300 + ": {}"]
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 30), PIECES), min_size=1, max_size=4))
@settings(max_examples=700, deadline=None)
@example([(0, len(WHOLE), "")])
def test_a_good_file_with_pieces_taken_out_and_put_in(changes: list[tuple[int, int, str]]) -> None:
    text = WHOLE
    for at, length, piece in changes:
        text = text[:at] + piece + text[at + length :]
    check(text.encode())


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_good_file_with_bytes_turned_over(seed: int) -> None:
    dice, data = random.Random(seed), bytearray(WHOLE.encode())
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    check(bytes(data))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["version", "queues", "q", "workers", "w", "arguments", "type", "env", "defaults", "queue"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_any_data_in_the_shape_of_yaml(tree: object) -> None:
    import yaml

    body = tree if isinstance(tree, dict) else {"version": 1, "queues": tree}
    check(yaml.safe_dump(body, allow_unicode=True).encode(errors="replace"))


def test_the_revision_is_the_digest_of_the_bytes() -> None:
    assert revision_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert revision_of(b"a") != revision_of(b"a\n")


@pytest.mark.parametrize("kind", ["block", "flow", "mixed", "odd"])
def test_the_fast_way_reads_what_pyyaml_reads(kind: str) -> None:
    read = 0
    for text in (document(seed, kind).removeprefix(BOM) for seed in range(300)):
        if "*" in text and "&" in text:
            continue
        loader = Loader(text)
        with suppress(*UNUSUAL):
            assert plain(plain_data(loader, loader.get_single_node())) == plain(yaml.load(text, Loader=yaml.SafeLoader))
            read += 1
    assert read > 100


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "1: a", "a: {~: 1}", "!!set {a}", "!!omap [a: 1]", "? [a]\n: 1", "<<: {a: 1}"]
)
def test_the_fast_way_leaves_the_unusual_to_pyyaml(text: str) -> None:
    loader = Loader(text)
    with pytest.raises(UNUSUAL):
        plain_data(loader, loader.get_single_node())
