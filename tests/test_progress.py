"""Progress without a terminal: log lines, and every item passes."""

import logging

import pytest

from dcharge import progress


@pytest.fixture
def lines(caplog, monkeypatch):
    """What was logged; without a terminal, every step worth a line."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "SHORT", 0.0)
    with caplog.at_level(logging.INFO, "dcharge"):
        yield lambda: [r.getMessage() for r in caplog.records]


def test_items_pass_and_the_end_is_told(lines):
    assert list(progress.track(range(3), desc="reading", unit="files")) == [0, 1, 2]
    assert lines()[0] == "reading: 1/3 files, 0 s left"
    assert lines()[-1] == "reading: 3 files in 0.0 s"


def test_counting_by_hand(lines):
    with progress.track(total=100, desc="predicting", unit="points") as bar:
        bar.update(60)
        bar.update(40)
    assert [x.split(",")[0] for x in lines()[:2]] == ["predicting: 60/100 points", "predicting: 100/100 points"]


def test_unknown_length(lines):
    assert list(progress.track(iter("ab"))) == ["a", "b"]
    assert lines()[0] == "progress: 1 it"


def test_short_loops_are_silent(caplog):
    with caplog.at_level(logging.INFO, "dcharge"):
        assert list(progress.track("ab")) == ["a", "b"]
    assert not caplog.records
