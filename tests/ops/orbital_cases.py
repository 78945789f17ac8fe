"""Parameters of orbital sums, and an independent brute force: numpy, loops over points, images and powers."""

from functools import cache

import numpy as np
import torch
from cases import N_TYPES, RCUT, case, image_shifts

SOFT = {"raw": 0.0, "unit": 0.3}
# exponents (a, b, c) of x^a y^b z^c, in the order of the components
POWERS = [
    [(0, 0, 0)],
    [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    [(2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
    [(3, 0, 0), (0, 3, 0), (0, 0, 3), (2, 1, 0), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (0, 1, 2), (1, 1, 1)],
]


def parameters(n_atoms, n_waves=5, dtype=torch.float64, seed=0):
    """coefficients [n_atoms, n_waves], center and exponent [N_TYPES, n_waves]."""
    g = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(n_atoms, n_waves, dtype=torch.float64, generator=g)
    center = RCUT * torch.rand(N_TYPES, n_waves, dtype=torch.float64, generator=g)
    exponent = -0.2 - torch.rand(N_TYPES, n_waves, dtype=torch.float64, generator=g)
    return coefficients.to(dtype), center.to(dtype), exponent.to(dtype)


def options(direction, l_max=2):
    return dict(rcut=RCUT, l_max=l_max, soft=SOFT[direction], direction=direction)


def monomials(v, l_max):
    """[n, n_comp]"""
    return np.stack([np.prod(v ** np.array(p), axis=1) for degree in POWERS[: l_max + 1] for p in degree], axis=1)


@cache
def brute_sums(name, l_max, direction, n_waves=5, as_atoms=False):
    """S of the points of a case, or of its atoms among each other, from the formula."""
    c = case(name)
    coefficients, center, exponent = (t.numpy() for t in parameters(len(c.atoms), n_waves))
    points, frames = (c.atoms, c.atom_frame) if as_atoms else (c.points, c.point_frame)
    out = np.zeros((len(points), sum(len(p) for p in POWERS[: l_max + 1]), n_waves))
    for p, r_p in enumerate(points.numpy()):
        f = int(frames[p])
        for j in np.flatnonzero(c.atom_frame.numpy() == f):
            offset = c.atoms.numpy()[j] - r_p
            grid, shifts = image_shifts(c.cell[f].numpy(), c.pbc[f].numpy(), np.linalg.norm(offset) + RCUT)
            vec = offset + shifts
            r = np.linalg.norm(vec, axis=1)
            keep = r < RCUT
            if as_atoms and p == j:
                keep &= (grid != 0).any(1)
            vec, r = vec[keep], r[keep]
            soft = np.hypot(r, SOFT[direction])
            A = monomials(vec / soft[:, None] if direction == "unit" else vec, l_max)
            t = int(c.atom_type[j])
            phi = (
                np.exp(exponent[t] * (soft[:, None] - center[t]) ** 2)
                * (0.5 + 0.5 * np.cos(np.pi * r / RCUT))[:, None] ** 2
            )
            out[p] += np.einsum("ek,em->km", A, phi * coefficients[j])
    return torch.tensor(out)


def brute_gram(sums):
    """Over ordered Cartesian products, written out with index tuples."""
    s = sums.double().numpy()
    l_max = {1: 0, 4: 1, 10: 2, 20: 3}[s.shape[1]]
    n_waves, first, parts = s.shape[2], 0, []
    for degree in range(l_max + 1):
        matrix = np.zeros((len(s), n_waves, n_waves))
        for axes in np.ndindex(*[3] * degree):
            power = tuple(axes.count(a) for a in range(3))
            row = s[:, first + POWERS[degree].index(power)]
            matrix += row[:, :, None] * row[:, None, :]
        first += len(POWERS[degree])
        parts += [matrix[:, m, k] for m in range(n_waves) for k in range(m, n_waves)]
    return torch.tensor(np.stack(parts, axis=1))
