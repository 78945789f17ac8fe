"""Analytic responses: two Gaussian sheets of opposite charge in a skewed cell, and Gaussian blobs."""

import numpy as np
from scipy.special import ndtr

from dcharge.density import Density
from dcharge.grid import Grid
from dcharge.structure import Structure

K = 180.951282  # e/epsilon0, V Angstrom
SIGMA = 0.005  # e/Angstrom^2, on either sheet
LOW, HIGH, WIDTH = 7.03, 16.11, 0.6  # heights of the sheets, their width, Angstrom
STEP = -K * SIGMA * (HIGH - LOW)
PLANE = np.array([[3.0, 0.4, 0.0], [-0.7, 2.8, 0.0]])  # spans the planes: heights are z
AREA = abs(np.linalg.det(PLANE[:, :2]))
ATOMS = [[0.1, 0.2, 9.0], [1.0, 1.0, 11.5], [0.5, 0.7, 14.2]]  # far from the sheets but between them


def gauss(x):
    return np.exp(-0.5 * (x / WIDTH) ** 2) / (WIDTH * np.sqrt(2 * np.pi))


def charge(h, extra=0.0):
    """Planar average of the sheets, e/Angstrom^3; `extra` e/Angstrom^2 more on the upper one."""
    return (SIGMA + extra) * gauss(h - HIGH) - SIGMA * gauss(h - LOW)


def potential(h):
    """The exact potential between open boundaries, V, zero far below."""

    def twice(x):  # the Gaussian, integrated twice
        return x * ndtr(x / WIDTH) + WIDTH**2 * gauss(x)

    return K * SIGMA * (twice(h - HIGH) - twice(h - LOW))


def sheets(c=(1.3, -0.9, 24.0), n=120, pbc=(1, 1, 0), shift=0.0, extra=0.0, origin=(0.0, 0.0, 0.0), field=(0, 0, -1.0)):
    """The response of a slab: sheets across z, modulated within the plane, all of it moved by `shift` along z.

    c: third cell vector, along which the sheets repeat if it is periodic.
    """
    cell = np.array([*PLANE, c], dtype=float)
    structure = Structure([79] * 3, np.array(ATOMS) + [0, 0, shift], cell, pbc, field)
    grid = Grid((6, 8, n), cell, origin)
    points = grid.points()
    height = points[:, 2] - shift
    if pbc[2]:
        height = height % abs(c[2])
    inplane = (points @ np.linalg.inv(cell))[:, :2]
    wave = 1 + 0.8 * np.cos(2 * np.pi * inplane[:, 0]) * np.sin(2 * np.pi * (inplane[:, 1] + inplane[:, 0]))
    return Density(structure, grid, (charge(height, extra) * wave).reshape(grid.shape), "response")


def blob(points, center, electrons, width=0.5):
    """A normalised Gaussian of `electrons` at points -> [n]."""
    d2 = ((points - center) ** 2).sum(1)
    return electrons * np.exp(-0.5 * d2 / width**2) / (2 * np.pi * width**2) ** 1.5
