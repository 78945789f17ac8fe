"""What the tests of formats share."""

import pytest
from made import FORMATS, make_density

import dcharge.errors


@pytest.fixture(autouse=True)
def nothing_said():
    """Every test hears what is said once."""
    dcharge.errors._said.clear()


@pytest.fixture
def formats():
    """Folder of real files of other codes."""
    return FORMATS


@pytest.fixture
def density():
    """One channel, skewed, periodic."""
    return make_density()
