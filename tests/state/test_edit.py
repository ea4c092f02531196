"""What an edit does to queues.yaml, shown as the text before and the text after."""

from __future__ import annotations

from contextlib import suppress
from textwrap import dedent
from typing import Any

import pytest
import yaml

from state.edit import EditRefused, remove, set_value, splices
from state.edit.layout import Splice


def text(indented: str) -> str:
    return dedent(indented).removeprefix("\n")


def check_set(before: str, path: str, value: Any, after: str) -> None:
    assert set_value(text(before), path.split("/"), value) == text(after)


def check_remove(before: str, path: str, after: str) -> None:
    assert remove(text(before), path.split("/")) == text(after)


def refusal(before: str, path: str, *value: Any) -> str:
    with pytest.raises(EditRefused) as refused:
        set_value(text(before), path.split("/"), *value) if value else remove(text(before), path.split("/"))
    return str(refused.value)


class TestReplacingAValue:
    def test_only_the_value_changes(self) -> None:
        check_set(
            """
            # who: mail team
            version: 1   # of this format

            queues:
                emails: {type: "quorum"}     # odd, but theirs
                'audit':
                    workers: {write: 1, index : 2,}

                    retry: null
            """,
            "queues/audit/workers/index",
            3,
            """
            # who: mail team
            version: 1   # of this format

            queues:
                emails: {type: "quorum"}     # odd, but theirs
                'audit':
                    workers: {write: 1, index : 3,}

                    retry: null
            """,
        )

    def test_the_comment_behind_it_stays(self) -> None:
        check_set("send: 5          # five processes\n", "send", 12, "send: 12          # five processes\n")

    def test_a_quoted_string_keeps_its_quotes(self) -> None:
        check_set('key: "order.*"\n', "key", "order.#", 'key: "order.#"\n')
        check_set("key: 'a'\n", "key", "it's", "key: 'it''s'\n")

    def test_an_equal_value_changes_nothing(self) -> None:
        before = "workers: {send: 0x05, 'resize' : 5}\n"
        assert set_value(before, ["workers"], {"send": 5, "resize": 5}) == before

    def test_one_is_neither_true_nor_a_float(self) -> None:
        check_set("a: 1\n", "a", True, "a: true\n")
        check_set("a: 1\n", "a", 1.0, "a: 1.0\n")

    def test_nothing_behind_the_colon_is_filled_in(self) -> None:
        check_set("audit:   # later\nb: 1\n", "audit", "x", "audit: x   # later\nb: 1\n")

    def test_a_block_of_text_becomes_one_line(self) -> None:
        check_set(
            """
            note: |  # long
              one
              two

            b: 1
            """,
            "note",
            "short",
            """
            note: short  # long

            b: 1
            """,
        )

    def test_a_value_on_the_next_line(self) -> None:
        check_set("a:\n  'one\n  two'  # c\nb: 1\n", "a", 5, "a:\n  5  # c\nb: 1\n")

    def test_a_mapping_is_replaced_whole_with_the_comments_in_it(self) -> None:
        check_set(
            """
            queues:
              emails:  # stays
                # goes
                workers:
                  send: 5
                  # goes too

              # stays as well
              audit: {}
            """,
            "queues/emails",
            {"type": "quorum", "workers": {"send": 1}},
            """
            queues:
              emails:  # stays
                type: quorum
                workers:
                  send: 1

              # stays as well
              audit: {}
            """,
        )
        check_set("a:  # c\n  b: 1\n  c: 2\nd: 3\n", "a", 5, "a: 5  # c\nd: 3\n")

    def test_flow_style_stays_flow_style(self) -> None:
        check_set("q: {type: quorum}\n", "q", {"type": "classic", "n": 1}, "q: {type: classic, n: 1}\n")

    def test_a_list_is_set_whole(self) -> None:
        check_set("delays: [1s, 10s]\n", "delays", ["1s", "5s", "1m"], "delays: [1s, 5s, 1m]\n")
        check_set("delays:\n- 1s\n- 10s\nb: 1\n", "delays", ["2s"], "delays: [2s]\nb: 1\n")

    def test_a_number_in_the_path_leads_to_an_item_of_a_list(self) -> None:
        check_set(
            """
            bindings:
              - exchange: events
                routing_key: a   # first
              - {exchange: events, routing_key: b}
            """,
            "bindings/0/routing_key",
            "c",
            """
            bindings:
              - exchange: events
                routing_key: c   # first
              - {exchange: events, routing_key: b}
            """,
        )
        check_set("l:\n  - 1\n  - a: 1\n    b: 2\n", "l/1", {"c": 3}, "l:\n  - 1\n  - {c: 3}\n")


class TestAdding:
    def test_behind_the_last_entry_and_its_comments(self) -> None:
        check_set(
            """
            queues:
              emails:
                workers:
                  send: 5
                # retry: {}

              # the next section
              audit: {}
            """,
            "queues/emails/type",
            "quorum",
            """
            queues:
              emails:
                workers:
                  send: 5
                type: quorum
                # retry: {}

              # the next section
              audit: {}
            """,
        )
        check_set(
            "a:\n  b: 1\n  # below b\n# above c\nc: 1\n", "d", 1, "a:\n  b: 1\n  # below b\n# above c\nc: 1\nd: 1\n"
        )

    def test_parents_are_made_and_indented_like_the_neighbours(self) -> None:
        check_set(
            """
            queues:
                emails:
                    workers:
                        send: 5
            """,
            "queues/audit/workers/write",
            2,
            """
            queues:
                emails:
                    workers:
                        send: 5
                audit:
                    workers:
                        write: 2
            """,
        )

    def test_entries_set_apart_by_blank_lines_stay_so(self) -> None:
        check_set(
            """
            queues:
              emails: {}

              # about b
              b: {}
            other: 1
            """,
            "queues/c",
            {},
            """
            queues:
              emails: {}

              # about b
              b: {}

              c: {}
            other: 1
            """,
        )

    def test_to_an_empty_mapping(self) -> None:
        check_set(
            """
            queues:
              audit: {}  # no workers yet
            """,
            "queues/audit/workers/write",
            1,
            """
            queues:
              audit:  # no workers yet
                workers:
                  write: 1
            """,
        )

    def test_to_nothing_behind_the_colon(self) -> None:
        check_set("queues:  # none\n  # yet\n", "queues/a", {}, "queues:  # none\n  a: {}\n  # yet\n")
        check_set("queues: ~\nb: 1\n", "queues/a", {}, "queues:\n  a: {}\nb: 1\n")

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("", "queues:\n  emails: {}\n"),
            ("# mine\n", "# mine\nqueues:\n  emails: {}\n"),
            ("# mine\n\n# more", "# mine\n\n# more\nqueues:\n  emails: {}"),
            ("version: 1\n", "version: 1\nqueues:\n  emails: {}\n"),
            ("version: 1  # last", "version: 1  # last\nqueues:\n  emails: {}"),
            ("{}\n", "queues:\n  emails: {}\n"),
            ("---\n# mine\n...\n", "---\nqueues:\n  emails: {}\n# mine\n...\n"),
            ("--- # c\nversion: 1\n...\n", "--- # c\nversion: 1\nqueues:\n  emails: {}\n...\n"),
        ],
    )
    def test_to_a_file_with_next_to_nothing_in_it(self, before: str, after: str) -> None:
        check_set(before, "queues/emails", {}, after)

    def test_in_flow_style(self) -> None:
        check_set("q: {a: 1, b: 2}  # c\n", "q/c", "x,y", "q: {a: 1, b: 2, c: 'x,y'}  # c\n")
        check_set("q: {a: 1, }\n", "q/c", {"d": [1]}, "q: {a: 1, c: {d: [1]}, }\n")
        check_set("q: [{}, {a: }]\n", "q/0/b", 1, "q: [{b: 1}, {a: }]\n")
        check_set("q: [{}, {a: }]\n", "q/1/b", 1, "q: [{}, {a: , b: 1 }]\n")

    def test_json_stays_json(self) -> None:
        check_set('{"version": 1}\n', "queues/a", {"type": "x"}, '{"version": 1, "queues": {"a": {"type": "x"}}}\n')
        check_set('{"queues": {}}\n', "queues/a", ["x"], '{"queues": {"a": ["x"]}}\n')

    def test_in_flow_style_over_several_lines(self) -> None:
        check_set(
            """
            {
              "version": 1,
              "queues": {}  # none
            }
            """,
            "policies",
            {},
            """
            {
              "version": 1,
              "queues": {},  # none
              "policies": {}
            }
            """,
        )
        check_set("{\n  a: 1,  # c\n}\n", "b", 2, "{\n  a: 1,  # c\n  b: 2,\n}\n")

    def test_to_a_mapping_in_a_list(self) -> None:
        check_set("l:\n- a: 1\n- b: 2\n", "l/0/c", 3, "l:\n- a: 1\n  c: 3\n- b: 2\n")

    def test_lists_of_mappings(self) -> None:
        check_set(
            """
            queues:
              a:
                bindings:
                - {exchange: x}
              b:
                type: quorum
            """,
            "queues/b/bindings",
            [{"exchange": "events", "routing_key": "order.*"}, {"exchange": "y", "arguments": {"k": [1]}}],
            """
            queues:
              a:
                bindings:
                - {exchange: x}
              b:
                type: quorum
                bindings:
                - {exchange: events, routing_key: order.*}
                - exchange: y
                  arguments:
                    k: [1]
            """,
        )


class TestItemsOfLists:
    BINDINGS = """
        queues:
          a:
            bindings:
              # first
              - {exchange: events, routing_key: a}
              - {exchange: events, routing_key: b}   # second
                # deeper
            type: quorum
        """

    def test_the_number_behind_the_last_adds_one(self) -> None:
        check_set(
            self.BINDINGS,
            "queues/a/bindings/2",
            {"exchange": "x"},
            """
            queues:
              a:
                bindings:
                  # first
                  - {exchange: events, routing_key: a}
                  - {exchange: events, routing_key: b}   # second
                    # deeper
                  - {exchange: x}
                type: quorum
            """,
        )

    def test_in_the_neighbours_style(self) -> None:
        check_set("l:\n- a: 1\n  b: 2\n", "l/1", {"c": 3, "d": 4}, "l:\n- a: 1\n  b: 2\n- c: 3\n  d: 4\n")
        check_set("l: [1, 2]\n", "l/2", "x,y", "l: [1, 2, 'x,y']\n")
        check_set('l: ["1"]\n', "l/1", "2", 'l: ["1", "2"]\n')
        check_set("l: [\n  1,  # one\n]\n", "l/1", 2, "l: [\n  1,  # one\n  2,\n]\n")
        check_set("l: [1, ]\n", "l/1", [2], "l: [1, [2], ]\n")
        check_set("l: []  # none\n", "l/0", {"a": 1}, "l:  # none\n  - {a: 1}\n")
        check_set("l:\n- 1\n\n- 2\n", "l/2", 3, "l:\n- 1\n\n- 2\n\n- 3\n")
        check_set("- 1\n- 2", "2", 3, "- 1\n- 2\n- 3")
        check_set("l:\n- - 1\n  - 2\n- 3\n", "l/0/2", 4, "l:\n- - 1\n  - 2\n  - 4\n- 3\n")

    def test_one_goes_with_its_comments(self) -> None:
        before = """
            queues:
              a:
                bindings:
                  # stays: about the list

                  # goes
                  - exchange: events
                    # goes
                    routing_key: a
                  - {exchange: events, routing_key: b}   # stays
            """
        after = """
            queues:
              a:
                bindings:
                  # stays: about the list

                  - {exchange: events, routing_key: b}   # stays
            """
        check_remove(before, "queues/a/bindings/0", after)
        check_remove(
            self.BINDINGS,
            "queues/a/bindings/1",
            self.BINDINGS.replace(
                "              - {exchange: events, routing_key: b}   # second\n                # deeper\n", ""
            ),
        )

    def test_one_goes_in_any_style(self) -> None:
        check_remove("l: [1, 2, 3]\n", "l/0", "l: [2, 3]\n")
        check_remove("l: [1, 2, 3]\n", "l/1", "l: [1, 3]\n")
        check_remove("l: [1, 2, 3]\n", "l/2", "l: [1, 2]\n")
        check_remove("l: [\n  1,  # one\n  2  # two\n]\n", "l/1", "l: [\n  1  # one\n]\n")
        check_remove("l:\n- - 1\n  - 2\n- 3\n", "l/0/0", "l:\n- - 2\n- 3\n")
        check_remove("l:\n-\n- 2\n", "l/0", "l:\n- 2\n")

    def test_the_last_one_leaves_an_empty_list(self) -> None:
        check_remove("l:  # all\n- 1  # one\nb: 1\n", "l/0", "l: []  # all\nb: 1\n")
        check_remove("l: [1]\n", "l/0", "l: []\n")
        check_remove("l:\n- - 1\n", "l/0/0", "l:\n- []\n")


class TestRemoving:
    def test_its_own_comments_go_and_no_others(self) -> None:
        check_remove(
            """
            queues:
              # stays: a blank line follows

              a: 1  # stays
              # about b, goes
              # in two lines, goes
              b:  # goes
                c: 1
                # deeper, goes
              # about d, stays
              d: 1
            """,
            "queues/b",
            """
            queues:
              # stays: a blank line follows

              a: 1  # stays
              # about d, stays
              d: 1
            """,
        )

    def test_the_heading_of_the_file_stays(self) -> None:
        check_remove("# heading\nversion: 1\nb: 2\n", "version", "# heading\nb: 2\n")
        check_remove("# heading\n\n# about version\nversion: 1\nb: 2\n", "version", "# heading\n\nb: 2\n")

    def test_its_blank_line_goes_with_it(self) -> None:
        check_remove("a: 1\n\nb: 2\n\nc: 3\n", "b", "a: 1\n\nc: 3\n")
        check_remove("a: 1\n\nb: 2\n\nc: 3\n", "c", "a: 1\n\nb: 2\n")
        check_remove("a: 1\n\nb: 2\n", "a", "b: 2\n")
        check_remove("a: 1\n\nb: 2\nc: 3\n", "b", "a: 1\n\nc: 3\n")

    def test_the_last_entry_leaves_an_empty_mapping(self) -> None:
        check_remove(
            """
            queues:  # all of them
              # about emails
              emails:
                workers: {send: 5}
            other: 1
            """,
            "queues/emails",
            """
            queues: {}  # all of them
            other: 1
            """,
        )
        check_remove("# heading\na: 1  # c\n", "a", "# heading\n{}\n")
        check_remove("l:\n  - a: 1  # c\n  - 2\n", "l/0/a", "l:\n  - {}\n  - 2\n")

    def test_in_flow_style(self) -> None:
        check_remove("q: {a: 1, b: 2, c: 3}\n", "q/a", "q: {b: 2, c: 3}\n")
        check_remove("q: {a: 1, b: 2, c: 3}\n", "q/b", "q: {a: 1, c: 3}\n")
        check_remove("q: {a: 1, b: 2, c: 3}\n", "q/c", "q: {a: 1, b: 2}\n")
        check_remove("q: {a: 1, b: 2,}\n", "q/b", "q: {a: 1,}\n")
        check_remove("q: {a: 1}\n", "q/a", "q: {}\n")

    def test_in_flow_style_over_several_lines(self) -> None:
        before = """
            {
              a: 1,  # first
              # about b
              b: 2,  # second
              c: 3   # third
            }
            """
        check_remove(before, "b", "{\n  a: 1,  # first\n  c: 3   # third\n}\n")
        check_remove(before, "c", "{\n  a: 1,  # first\n  # about b\n  b: 2  # second\n}\n")

    def test_the_first_key_behind_a_dash(self) -> None:
        check_remove("l:\n- a: 1\n  # about b\n  b: 2\n- 3\n", "l/0/a", "l:\n- # about b\n  b: 2\n- 3\n")

    def test_a_null_and_a_block_of_text(self) -> None:
        check_remove("a:\nb: |\n  text\n  # no comment\n\nc: 1\n", "b", "a:\n\nc: 1\n")
        check_remove("a: |\n  text\nb:\nc: 1\n", "b", "a: |\n  text\nc: 1\n")


class TestTheFileAsItIs:
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("eol", ["\n", "\r\n"])
    @pytest.mark.parametrize("end", [True, False])
    def test_line_endings_and_byte_order_mark(self, mark: str, eol: str, end: bool) -> None:
        def as_file(*lines: str) -> str:
            return mark + eol.join(lines) + (eol if end else "")

        before = as_file("# é😀", "a:", "  b: 1 # c")
        added = as_file("# é😀", "a:", "  b: 1 # c", "  c:", "    d: x")
        assert set_value(before, ["a", "b"], 2) == as_file("# é😀", "a:", "  b: 2 # c")
        assert set_value(before, ["a", "c", "d"], "x") == added
        assert remove(added, ["a", "b"]) == as_file("# é😀", "a:", "  c:", "    d: x")

    def test_adding_and_removing_gives_the_same_bytes(self) -> None:
        before = text("""
            queues:
              # a
              a: {}  # a

              # b
              b:
                type: quorum
                # more
              # end

            # other
            other: [1]
            """)
        after = before
        for name in ("x", "y", "z"):
            after = set_value(after, ["queues", name], {"workers": {"send": 1}})
        for name in ("y", "z", "x"):
            after = remove(after, ["queues", name])
        assert after == before


class TestAnchorsAndAliases:
    ANCHORED = """
        defaults: &d
          type: quorum
        a: *d
        b:
          <<: *d
          durable: true
        """

    def test_an_alias_is_replaced_by_a_value_of_its_own(self) -> None:
        assert "\na: {}\n" in set_value(text(self.ANCHORED), ["a"], {})
        check_set("x: &x 1\ny: *x  # c\n", "y", 2, "x: &x 1\ny: 2  # c\n")

    def test_an_anchor_stays_with_its_place(self) -> None:
        check_set("x: &x 1\n", "x", 2, "x: &x 2\n")
        check_set("x: &x\n  a: 1\n", "x", 2, "x: &x 2\n")
        check_set("x: &x {}\n", "x/a", 2, "x: &x\n  a: 2\n")

    def test_a_merged_key_is_overridden(self) -> None:
        after = set_value(text(self.ANCHORED), ["b", "type"], "classic")
        assert after == text(self.ANCHORED) + "  type: classic\n"

    def test_a_value_from_elsewhere_is_refused(self) -> None:
        assert refusal(self.ANCHORED, "a/type", "classic") == (
            "'a' comes from an alias at line 3, written at line 1; edit it there by hand, or write it out here"
        )
        assert "comes from a merge at line 5" in refusal(self.ANCHORED, "b/type")

    def test_what_is_used_again_elsewhere_is_refused(self) -> None:
        sentence = "the anchor &d at line 1 is used at line 3, which would change too"
        assert sentence in refusal(self.ANCHORED, "defaults/type", "classic")
        assert sentence in refusal(self.ANCHORED, "defaults")

    def test_a_key_that_a_merge_would_bring_back_is_refused(self) -> None:
        assert "the merge at line 2" in refusal("a: &a {b: 1}\nc: {<<: *a, b: 2}\n", "c/b")


class TestRefusals:
    def test_a_key_twice(self) -> None:
        assert refusal("a: 1\nb:\n  c: 1\n  'c': 2\n", "a", 2) == (
            "line 4: the key 'c' is there twice; remove one by hand first"
        )

    def test_text_that_is_not_yaml(self) -> None:
        message = refusal("a: 1\nb: [\n", "a", 2)
        assert message.startswith("the file is not readable as it stands: ")
        assert "line 3" in message

    def test_two_documents(self) -> None:
        assert "not readable" in refusal("a: 1\n---\na: 2\n", "a", 2)

    def test_a_path_through_a_single_value(self) -> None:
        assert refusal("a: 1\nb: 5\n", "b/c", 2) == (
            "line 2: this is a single value, so no key 'c' fits in; change it by hand"
        )

    def test_nothing_to_remove(self) -> None:
        assert refusal("a: 1\n", "b/c") == "'b.c' is not in the file, so there is nothing to remove"

    def test_an_item_that_a_list_has_no_room_for(self) -> None:
        assert refusal("l: [1, 2]\n", "l/3", 3) == (
            "line 1: this is a list of 2, so no key '3' fits in; "
            "use 2 for a new item behind the last, or change it by hand"
        )
        assert "is not in the file" in refusal("l: [1, 2]\n", "l/2")

    def test_a_set_or_an_ordered_mapping(self) -> None:
        assert refusal("s: !!set {a, b}\n", "s/a").startswith("line 1: this is a mapping with the tag")
        assert "change it by hand" in refusal("o: !!omap\n- a: 1\n", "o/0/a", 2)

    def test_an_explicit_key(self) -> None:
        assert "change it by hand" in refusal("? a\n: 1\n", "a", 2)

    def test_what_is_not_plain_data(self) -> None:
        assert "cannot be written as YAML" in refusal("a: 1\n", "a", object())

    def test_what_is_nested_without_end(self) -> None:
        for depth in (400, 900, 5000):
            deep = "".join(" " * at + "a:\n" for at in range(depth)) + " " * depth + "a: 1\n"
            for edit, *value in ((remove,), (set_value, 1)):
                with suppress(EditRefused):
                    assert len(edit(deep, ["a"], *value)) < 10

    def test_a_text_that_would_grow_a_line_break(self) -> None:
        assert "has no line break" in refusal("a: |\n  text", "b", 1)


STRINGS = (
    "on", "no", "007", "1.10", "1e3", "0x1f", "12:30", "2024-01-01", "~", "null", "", " lead", "trail ", "a: b", "a:",
    "a #b", "#", "- a", "-", "---", "? a", "[a", "{a", "a, b", "]", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a",
    "'", '"', "it's", "back\\slash", "two\nlines", "tab\t", "\x07", "\x85", "\u2028", "\ufeff", "é",
    "😀", "<<", "=", "x" * 255,
    "😀" * 63, "a b" * 80,
)  # fmt: skip


@pytest.mark.parametrize("string", STRINGS)
@pytest.mark.parametrize("before", ["a: 1\n", "{a: 1}\n", 'a: "1"\n', "a: '1'\n"])
def test_strings_come_back_as_they_are(before: str, string: str) -> None:
    for path, data in ((["a"], {"a": string}), ([string], {"a": "1", string: string})):
        after = set_value(set_value(before, ["a"], "1"), path, string)
        assert yaml.load(after, Loader=yaml.SafeLoader) == data
        assert "? " not in after.replace(string, "").replace("'? a'", "")
        assert after.count("\n") <= 2


@pytest.mark.parametrize("value", [5, -1, 2.5, 1e300, float("inf"), True, None, [], {}, [[1], {"a": None}], {1: 2}])
def test_other_values_come_back_with_their_type(value: object) -> None:
    after = set_value("a: 1\nb: 2\n", ["a"], value)
    assert repr(yaml.load(after, Loader=yaml.SafeLoader)) == repr({"a": value, "b": 2})


class TestTheCheck:
    """A mistake in the cutting costs the edit, never the file."""

    TEXT = "a: &x {b: 1}\nc: 2\nd: *x\ne: [1, 2]\n"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("c: 2", "c: 4"),
            ("c: 2", "c: 3\nf: 1"),
            ("c: 2", "c: 3, 3"),
            ("c: 2\n", ""),
            ("c: 2\nd", "c: 3\nD"),
            ("c: 2\nd", "C: 3\nd"),
            ("b: 1}\nc: 2", "b: 2}\nc: 3"),
            ("b: 1}\nc: 2", "b: '1'}\nc: 3"),
            ("c: 2\nd: *x\n", "c: 3\n"),
            ("c: 2\nd: *x\n", "c: &x 3\nd: *x\n"),
            ("c: 2\nd: *x\n", "c: 3\nd: {b: 1}\n"),
            ("c: 2\nd: *x\ne: [1, 2]", "c: 3\nd: *x\ne: [2, 1]"),
            ("&x {b: 1}\nc: 2", "&y {b: 1}\nc: 3"),
            ("c: 2", "c: 3\n---"),
            ("c: 2", "c: ["),
            ("c: 2", "c: 3.0"),
            ("c: 2", "c: !!str 3"),
        ],
    )
    def test_refuses_whatever_else_would_change(self, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
        assert set_value(self.TEXT, ["c"], 3) == self.TEXT.replace("c: 2", "c: 3")
        start = self.TEXT.index(old)
        wrong = [Splice(start, start + len(old), new)]
        monkeypatch.setattr(splices, "replace", lambda *_: wrong)
        with pytest.raises(EditRefused, match="would change something else"):
            set_value(self.TEXT, ["c"], 3)
