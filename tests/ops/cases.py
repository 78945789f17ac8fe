"""Systems for the contract of the ops, and an independent brute force: numpy, loops over images, its own bases."""

from functools import cache

import numpy as np
import scipy.special
import torch

RCUT, SMTH, SOFT, N_TYPES = 4.0, 0.5, 0.5, 2
RADIAL = dict(rcut=RCUT, rcut_smth=SMTH, soft=SOFT)
SKEWED = np.array([[4.1, 0.3, -0.2], [2.9, 3.9, 0.4], [-1.7, 1.2, 4.6]])

# name: list of frames (cell, pbc, n_atoms)
FRAMES = {
    "bulk": [(5.43 * np.eye(3), (1, 1, 1), 8)],
    "skewed": [(SKEWED, (1, 1, 1), 5)],
    "slab": [(SKEWED, (1, 1, 0), 5)],
    "wire": [(SKEWED, (0, 1, 0), 5)],
    "molecule": [(np.zeros((3, 3)), (0, 0, 0), 4)],
    "one_atom": [(np.zeros((3, 3)), (0, 0, 0), 1)],
    "empty": [(5.0 * np.eye(3), (1, 1, 1), 0)],
    "small_cell": [(np.array([[1.9, 0.0, 0.0], [0.6, 2.1, 0.0], [0.1, -0.4, 2.3]]), (1, 1, 1), 2)],
    "two_frames": [(SKEWED, (1, 1, 1), 5), (np.zeros((3, 3)), (0, 0, 0), 3)],
}


class Case:
    """Tensors of a system: points (inside, outside the cell, on a nucleus, far away), atoms, frames interleaved."""

    def __init__(self, name, n_points=29, seed=0):
        rng = np.random.default_rng(seed)
        frames = FRAMES[name]
        self.name = name
        self.cell = torch.tensor(np.array([f[0] for f in frames], dtype=np.float64))
        self.pbc = torch.tensor(np.array([f[1] for f in frames], dtype=bool))
        atom_frame = rng.permutation(np.repeat(np.arange(len(frames)), [f[2] for f in frames]))
        atoms = np.array([self._spread(frames[f], rng) for f in atom_frame]).reshape(-1, 3)
        point_frame = rng.permutation(np.arange(n_points) % len(frames))
        points = np.array([self._spread(frames[f], rng) * 2 - 1.5 for f in point_frame]).reshape(-1, 3)
        if len(atoms):
            points[3], point_frame[3] = atoms[0], atom_frame[0]
        points[5] += 9.0
        self.points, self.atoms = torch.tensor(points), torch.tensor(atoms)
        self.point_frame, self.atom_frame = torch.tensor(point_frame), torch.tensor(atom_frame)
        self.atom_type = torch.tensor(rng.integers(0, N_TYPES, len(atoms)))

    @staticmethod
    def _spread(frame, rng):
        return rng.random(3) @ frame[0] if np.any(frame[0]) else rng.random(3) * 4.0

    @property
    def geometry(self):
        """The seven tensors every point op takes."""
        return self.points, self.point_frame, self.atoms, self.atom_type, self.atom_frame, self.cell, self.pbc

    def with_points(self, points, point_frame):
        """The seven tensors with other points."""
        return (points, point_frame, *self.geometry[2:])


@cache
def case(name, n_points=29, seed=0):
    return Case(name, n_points, seed)


def harmonics(u, l_max):
    """r^l sqrt(4 pi / (2 l + 1)) times real spherical harmonics of u [n, 3], from scipy's complex ones."""
    r = np.linalg.norm(u, axis=1)
    theta, phi = np.arccos(np.divide(u[:, 2], r, out=np.ones_like(r), where=r > 0)), np.arctan2(u[:, 1], u[:, 0])
    out = []
    for degree in range(l_max + 1):
        scale = r**degree * np.sqrt(4 * np.pi / (2 * degree + 1))
        for m in [1, -1, 0] if degree == 1 else range(-degree, degree + 1):
            y = scipy.special.sph_harm_y(degree, abs(m), theta, phi)
            part = y.real if m >= 0 else y.imag
            out.append(scale * part * (1 if m == 0 else np.sqrt(2) * (-1) ** m))
    return np.stack(out, axis=1)


def image_shifts(cell, pbc, reach):
    """Cartesian shifts of all images whose cell may come within `reach` of the origin's."""
    n = [0, 0, 0]
    for a in np.flatnonzero(pbc):
        # distance between lattice planes, from the projection onto the space orthogonal to the other periodic vectors
        others = cell[[b for b in np.flatnonzero(pbc) if b != a]]
        height = cell[a] - (np.linalg.pinv(others) @ others @ cell[a] if len(others) else 0)
        n[a] = int(np.ceil(reach / np.linalg.norm(height)))
    grid = np.stack(np.meshgrid(*[np.arange(-k, k + 1) for k in n], indexing="ij"), -1).reshape(-1, 3)
    return grid, grid @ np.where(np.array(pbc)[:, None], cell, 0.0)


@cache
def brute_force(name, l_max, n_radial, n_points=29, seed=0):
    """P [n, n_types, (l_max + 1)^2, n_radial] from the formula, one point after the other."""
    c = case(name, n_points, seed)
    out = np.zeros((len(c.points), N_TYPES, (l_max + 1) ** 2, n_radial))
    low, high = 1 / np.hypot(RCUT, SOFT), 1 / SOFT
    for p, r_p in enumerate(c.points.numpy()):
        f = int(c.point_frame[p])
        member = np.flatnonzero(c.atom_frame.numpy() == f)
        if not len(member):
            continue
        atoms = c.atoms.numpy()[member]
        span = np.linalg.norm(atoms - r_p, axis=1).max() + RCUT
        _, shifts = image_shifts(c.cell[f].numpy(), c.pbc[f].numpy(), span)
        vec = (atoms[:, None] + shifts - r_p).reshape(-1, 3)
        types = np.repeat(c.atom_type.numpy()[member], len(shifts))
        r = np.linalg.norm(vec, axis=1)
        vec, types, r = vec[r < RCUT], types[r < RCUT], r[r < RCUT]
        u = np.clip((r - SMTH) / (RCUT - SMTH), 0, 1)
        soft = np.hypot(r, SOFT)
        s = (u**3 * (-6 * u**2 + 15 * u - 10) + 1) / soft
        x = np.clip(2 * (1 / soft - low) / (high - low) - 1, -1, 1)
        T = np.cos(np.arange(n_radial) * np.arccos(x)[:, None])
        Y = harmonics(vec / soft[:, None], l_max)
        for t in range(N_TYPES):
            of = types == t
            out[p, t] = np.einsum("e,ek,eb->kb", s[of], Y[of], T[of])
    return torch.tensor(out)


def relative_error(value, exact):
    """Largest deviation relative to the largest magnitude."""
    if exact.numel() == 0:
        return 0.0
    scale = max(float(exact.detach().abs().max()), 1e-30)
    return float((value.detach().double() - exact.detach().double()).abs().max()) / scale


def tolerance(dtype, gradient=False):
    """docs: fp64 1e-10; fp32 values 1e-5, gradients 1e-4, relative to the maximum."""
    if dtype == torch.float64:
        return 1e-10
    return 1e-4 if gradient else 1e-5
