"""Random skewed systems, and a crystal for the rates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RCUT, SMTH, SOFT = 4.0, 0.5, 0.5
MASKS = [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)]


@dataclass
class System:
    """The seven tensors of every point op, and numbers that the ops take; float64 on one device."""

    points: Tensor
    point_frame: Tensor
    atoms: Tensor
    atom_type: Tensor
    atom_frame: Tensor
    cell: Tensor
    pbc: Tensor
    n_types: int = 2
    rcut: float = RCUT
    n_radial: int = 11
    l_max: int = 1
    width: int = 24  # columns of A

    @property
    def radial(self) -> dict:
        """The lengths every radial op takes."""
        return dict(rcut=self.rcut, rcut_smth=SMTH, soft=SOFT)

    def to(self, device) -> System:
        """The same on another device."""
        return System(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()})


def random_system(seed: int, n_points: int, n_frames: int = 2, n_atoms: int = 6, **sizes) -> System:
    """Frames of skewed cells smaller and larger than the cutoff, any pbc mask; some points and atoms lie outside."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(shape, dtype=torch.float64, generator=g)

    cell = 3.0 * torch.eye(3, dtype=torch.float64) + 2 * rand(n_frames, 3, 3) - 0.7
    pbc = torch.tensor([MASKS[(seed + f) % len(MASKS)] for f in range(n_frames)], dtype=torch.bool)
    atom_frame = torch.randint(0, n_frames, (n_atoms * n_frames,), generator=g)
    point_frame = torch.randint(0, n_frames, (n_points,), generator=g)
    atoms = torch.einsum("na,nab->nb", 2 * rand(len(atom_frame), 3) - 0.5, cell[atom_frame])
    points = torch.einsum("na,nab->nb", 2 * rand(n_points, 3) - 0.5, cell[point_frame])
    if n_points > 2:  # on a nucleus, and far away
        points[0], point_frame[0] = atoms[0], atom_frame[0]
        points[1] += 30.0
    atom_type = torch.randint(0, 2, (len(atoms),), generator=g)
    return System(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, **sizes)


def crystal(n_points: int, repeat: int = 4) -> System:
    """Silicon at 6.5 Angstrom, points on a grid of 0.12 Angstrom, as in a prediction."""
    lattice = 5.469
    diamond = torch.tensor(
        [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]], dtype=torch.float64
    )
    shifts = torch.cartesian_prod(*[torch.arange(repeat, dtype=torch.float64)] * 3)
    atoms = ((diamond / 4)[None] + shifts[:, None]).reshape(-1, 3) * lattice
    n = int(repeat * lattice / 0.12)
    index = torch.arange(n_points) % n**3
    grid = torch.stack([index // n**2, index // n % n, index % n], 1).double() * (repeat * lattice / n)
    zeros = torch.zeros(len(atoms), dtype=torch.int64)
    cell = torch.eye(3, dtype=torch.float64)[None] * repeat * lattice
    pbc, frame = torch.ones(1, 3, dtype=torch.bool), torch.zeros(n_points, dtype=torch.int64)
    return System(
        grid, frame, atoms, zeros, zeros.clone(), cell, pbc, n_types=1, rcut=6.5, n_radial=20, l_max=1, width=80
    )
