"""Made-up densities and CHGCAR texts for the tests of formats."""

from pathlib import Path

import numpy as np

from dcharge.density import Density
from dcharge.grid import Grid
from dcharge.structure import Structure

FORMATS = Path(__file__).parent.parent / "data/formats"


def make_density(seed=0, shape=(4, 5, 6), n_channels=1, pbc=(True, True, True), field=None, origin=(0, 0, 0)):
    """A skewed cell with three atoms and random values of all magnitudes."""
    rng = np.random.default_rng(seed)
    cell = np.array([[4.0, 0.3, 0.0], [-1.0, 5.0, 0.2], [0.5, 0.1, 6.0]])
    structure = Structure([8, 1, 1], rng.uniform(-1, 7, (3, 3)), cell, pbc, field)
    values = rng.standard_normal((n_channels, *shape)) * 10.0 ** rng.uniform(-14, 2, (n_channels, *shape))
    return Density(structure, Grid(shape, cell, origin), values)


HEADER = """made up
1.0
4.0 0.0 0.0
0.0 4.0 0.0
0.0 0.0 4.0
O H
1 2
Direct
0.0 0.0 0.0
0.25 0.0 0.0
0.0 0.25 0.0

"""


def chgcar(values=None, header=HEADER, shape=(2, 2, 3), tail=""):
    """Text of a CHGCAR; `values` are words in file order."""
    words = [f"{v:.11E}" for v in np.arange(np.prod(shape)) + 1.0] if values is None else list(values)
    lines = [" ".join(words[i : i + 5]) for i in range(0, len(words), 5)]
    return header + " ".join(map(str, shape)) + "\n" + "\n".join(lines) + "\n" + tail
