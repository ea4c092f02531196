"""Durations, sizes, shares and moments as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.units import iso, moment, seconds, share, share_of, size

ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (30, 30), (0, 0), (1.5, 1.5), ("10s", 10), ("500ms", 0.5), ("5m", 300), ("1h", 3600), ("2d", 172800),
        ("1.5h", 5400), (" 10 S ", 10), ("0.1s", 0.1),
    ],
)  # fmt: skip
def test_a_duration_in_seconds(written: Any, meant: float) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize("written", ["10", "", "s", "10 weeks", "1h30m", "-5s", "1e3s", -1, True, None, [], "١s"])
def test_what_is_no_duration_says_what_would_be(written: Any) -> None:
    with pytest.raises(ValueError, match="a duration is a number of seconds, or text such as 30s, 5m, 1h or 2d"):
        seconds(written)


@pytest.mark.parametrize("written", [float("nan"), float("inf"), 2**63, "999999999999999d"])
def test_no_duration_is_endless(written: Any) -> None:
    with pytest.raises(ValueError, match="out of range"):
        seconds(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (1048576, 2**20), (0, 0), ("512MiB", 512 * 2**20), ("50MB", 50_000_000), ("1GiB", 2**30), ("1kB", 1000),
        ("2 TiB", 2 * 2**40), ("1.5KiB", 1536), ("7B", 7), ("1mib", 2**20), (2**62, 2**62),
    ],
)  # fmt: skip
def test_a_size_in_bytes(written: Any, meant: int) -> None:
    found = size(written)
    assert (found, type(found)) == (meant, int)


@pytest.mark.parametrize("written", ["512", "512M", "1G", "MiB", "", -1, 1.5, True, None, {}, "999999999999999TiB"])
def test_what_is_no_size_says_what_would_be(written: Any) -> None:
    with pytest.raises(ValueError, match="a size is a whole number of bytes, or text such as 512MiB"):
        size(written)


@pytest.mark.parametrize(
    ("written", "of", "meant"),
    [
        ("25%", 8, 2),
        ("25%", 7, 1),
        ("25%", 1, 1),
        ("100%", 5, 5),
        ("1%", 1000, 10),
        (3, 8, 3),
        (9, 2, 9),
        ("25%", 0, 1),
    ],
)
def test_a_share_of_a_pool_is_rounded_down_but_at_least_one(written: Any, of: int, meant: int) -> None:
    assert share_of(share(written), of) == meant


@pytest.mark.parametrize("written", [0, -1, "0%", "101%", "25", "2.5%", 2.5, True, None, "%"])
def test_what_is_no_share_says_what_would_be(written: Any) -> None:
    with pytest.raises(ValueError, match="a share such as"):
        share(written)


NINE = datetime(2026, 12, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2026-12-01T09:00Z", "2026-12-01 09:00", "2026-12-01T09:00:00+00:00", "2026-12-01T10:00+01:00",
        datetime(2026, 12, 1, 9), NINE, NINE.astimezone(timezone(timedelta(hours=-7))),
    ],
)  # fmt: skip
def test_a_moment_is_read_from_yaml_and_from_text_and_names_no_zone_where_it_means_utc(written: Any) -> None:
    assert moment(written) == NINE
    assert iso(moment(written).timestamp()) == "2026-12-01T09:00:00Z"


def test_the_last_moment_that_can_be_written_is_one_that_can_be_told() -> None:
    for written in ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999)):
        assert iso(moment(written).timestamp()) == "9999-12-31T23:59:59Z"


def test_a_day_begins_at_midnight() -> None:
    assert moment(date(2026, 12, 1)) == moment("2026-12-01") == NINE.replace(hour=0)


@pytest.mark.parametrize(
    "written", ["tomorrow", "", 1764579600, True, None, "2026-13-01T00:00Z", "0001-01-01T00:00+10:00"]
)
def test_what_is_no_moment_says_what_would_be(written: Any) -> None:
    with pytest.raises(ValueError, match="a moment is written as 2026-12-01T09:00Z"):
        moment(written)


@given(ANYTHING)
def test_whatever_it_is_it_is_read_or_refused_in_words(value: Any) -> None:
    refused = []
    for read in (seconds, size, share, moment):
        try:
            read(value)
        except ValueError as error:
            refused.append(str(error))
    assert all(0 < len(text) < 200 for text in refused)
