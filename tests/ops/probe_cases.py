"""States and filters of probe messages, and an independent brute force: numpy, loops over points, atoms and images."""

from functools import cache

import numpy as np
import torch
from cases import RCUT, case, image_shifts

N_LAYERS, N_KNOTS, N_FEATURES = 2, 50, 19


def states(n_atoms, n_features=N_FEATURES, n_layers=N_LAYERS, dtype=torch.float64):
    """[n_atoms, n_layers, 5, n_features]"""
    g = torch.Generator().manual_seed(1)
    return torch.randn(n_atoms, n_layers, 5, n_features, dtype=torch.float64, generator=g).to(dtype)


def table(n_features=N_FEATURES, n_layers=N_LAYERS, n_knots=N_KNOTS, dtype=torch.float64):
    """Smooth filters [n_layers, 3, n_knots, n_features]: random sums of sin(n pi r/rcut)/r times the cosine cutoff."""
    g = torch.Generator().manual_seed(2)
    r = torch.linspace(0, RCUT, n_knots, dtype=torch.float64)[:, None]
    n = torch.arange(1, 7, dtype=torch.float64)
    wave = torch.sinc(n * r / RCUT) * n * (0.5 + 0.5 * torch.cos(torch.pi * r / RCUT))
    weights = torch.randn(n_layers, 3, 6, n_features, dtype=torch.float64, generator=g)
    return (wave @ weights).to(dtype)


def parameters(n_atoms, n_features=N_FEATURES, n_layers=N_LAYERS, dtype=torch.float64):
    """states and table of a system."""
    return states(n_atoms, n_features, n_layers, dtype), table(n_features, n_layers, dtype=dtype)


def lagrange(values, r):
    """The cubic through the four knots around r (in the first and last interval: the first and last four)."""
    n = values.shape[-2]
    x = r * (n - 1) / RCUT
    first = min(max(int(np.floor(x)) - 1, 0), n - 4)
    out = 0.0
    for i in range(4):
        weight = np.prod([(x - first - k) / (i - k) for k in range(4) if k != i])
        out = out + weight * values[..., first + i, :]
    return out


@cache
def brute_messages(name, n_features=N_FEATURES, n_layers=N_LAYERS):
    """[n, n_layers, 4, n_features] from the formula."""
    c = case(name)
    s, w = (t.numpy() for t in parameters(len(c.atoms), n_features, n_layers))
    out = np.zeros((len(c.points), n_layers, 4, n_features))
    for p, r_p in enumerate(c.points.numpy()):
        f = int(c.point_frame[p])
        for j in np.flatnonzero(c.atom_frame.numpy() == f):
            offset = r_p - c.atoms.numpy()[j]
            _, shifts = image_shifts(c.cell[f].numpy(), c.pbc[f].numpy(), np.linalg.norm(offset) + RCUT)
            for d in offset + shifts:
                r = np.linalg.norm(d)
                if r < RCUT:
                    u = d / r if r > 1e-6 else np.zeros(3)
                    w_s, w_vv, w_vs = np.moveaxis(lagrange(w, r), 1, 0)
                    out[p, :, 0] += w_s * s[j, :, 0]
                    for x in range(3):
                        out[p, :, 1 + x] += w_vv * s[j, :, 2 + x] + w_vs * s[j, :, 1] * u[x]
    return torch.tensor(out)
