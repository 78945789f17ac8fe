"""The embedding net at every pair, as the Deep Charge paper prints it: exact, slow, yardstick of the interpolant."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch
from ..errors import warn_once
from ..ops import neighbors, switch
from ..ops.bases import solid_harmonics

# 1/r has no value on a nucleus; closer than this the unsoftened environment is that of this distance (Angstrom)
R_MIN = 0.01


def frame_pairs(batch: Batch, points: Tensor | None, point_frame: Tensor | None, rcut: float):
    """All (point, atom image) pairs within rcut: point index [e], atom index [e], vector [e, 3] (Angstrom, float64).

    Without points those of atoms and other atoms, or images of their own.
    """
    point_index, atom_index, vectors = [], [], []
    among_atoms = points is None
    if among_atoms:
        points, point_frame = batch.atoms, batch.atom_frame
    for frame in torch.unique(point_frame).tolist():
        p = torch.nonzero(point_frame == frame)[:, 0]
        a = torch.nonzero(batch.atom_frame == frame)[:, 0]
        targets = None if among_atoms else points[p]
        index, shift = neighbors(batch.atoms[a], batch.cell[frame], batch.pbc[frame], rcut, targets=targets)
        i, j = p[index[0]], a[index[1]]
        point_index.append(i)
        atom_index.append(j)
        vectors.append(batch.atoms[j] + shift.to(torch.float64) @ batch.cell[frame] - points[i])
    if not point_index:
        empty = torch.zeros(0, dtype=torch.int64, device=points.device)
        return empty, empty, points.new_zeros((0, 3))
    return torch.cat(point_index), torch.cat(atom_index), torch.cat(vectors)


def blocks(counts: Tensor, most: int):
    """Consecutive points with at most `most` pairs together, or one point: (first, end, slice of their pairs).

    counts [n] int64: pairs (or nodes of the graph) of every point. A block has at most `most` points, too.
    """
    ends = [0, *torch.cumsum(counts, 0).tolist()]
    start = 0
    while start < len(counts):
        stop = min(max(start + 1, bisect.bisect_right(ends, ends[start] + most) - 1), start + most)
        yield start, stop, slice(ends[start], ends[stop])
        start = stop


def pair_environment(
    vector: Tensor, l_max: int, rcut: float, rcut_smth: float, soft: float, protection: float = 0.0
) -> tuple[Tensor, Tensor]:
    """s [e] and R = s (Y_lm) [e, (l_max + 1)^2] of pairs (Eqs. 6, 7 of the paper, softened as ops.radial_moments).

    Without softening 1/r may be 1/(r + protection), as in DeePMD-kit.
    """
    r2 = vector.square().sum(-1)
    positive = r2 > 0
    r = torch.where(positive, torch.where(positive, r2, 1.0).sqrt(), 0.0)
    if soft > 0:
        softened = torch.sqrt(r2 + soft**2)
    else:
        softened = r + protection if protection > 0 else r.clamp_min(R_MIN)
    s = switch(r, rcut, rcut_smth) / softened
    return s, s[:, None] * solid_harmonics(vector / softened[:, None], l_max)


@dataclass
class Padding:
    """DeePMD-kit's rows of neighbours that are not there, for a mean (davg) that is not zero.

    It has `slots` [n_types] int64 (sel) rows per point. An empty one is s = 0, which after (s - mean)/scale is a
    number like any other and passes through the net: the sum over neighbours is smooth at the cutoff only with it.
    """

    mean: Tensor
    slots: Tensor

    def added(self, a: Tensor, t: int, net, scale: Tensor, i: Tensor) -> Tensor:
        """A with the empty rows of species t, (slots - n) R(0) G(0) per point; i [e]: the point of every neighbour."""
        n = torch.bincount(i, minlength=len(a))
        if len(n) and n.max() > self.slots[t]:
            warn_once(
                "slots",
                f"a point has {int(n.max())} neighbours of one species, above the model's {int(self.slots[t])} (sel); "
                "all are summed, but DeePMD-kit leaves out the farthest, and its density jumps there",
            )
        row = (-self.mean / scale[0]).reshape(1, 1)
        padded = (self.slots[t] - n).to(a.dtype)[:, None] * (row * net(row))
        return torch.cat([a[:, :1] + padded[:, None], a[:, 1:]], dim=1)


def exact_environment(
    batch, points, point_frame, embedding, radial: dict, scale: Tensor, padding: Padding | None = None
) -> Tensor:
    """A [n_points, n_components, width] = sum_j R_j G(s_j), pair by pair.

    embedding: one net per species; scale [l_max + 1]: divisors of R (and, for l = 0, of the net's input);
    padding: a mean subtracted from R for l = 0 and from the net's input, and the rows that this asks for.
    """
    l_max = len(scale) - 1
    i, j, vector = frame_pairs(batch, points, point_frame, radial["rcut"])
    s, environment = pair_environment(vector, l_max, **radial)
    orders = torch.repeat_interleave(torch.arange(l_max + 1), 2 * torch.arange(l_max + 1) + 1).to(scale.device)
    environment = environment.to(scale.dtype) / scale[orders]
    if padding is not None:
        s = s - padding.mean
        environment[:, 0] = s / scale[0]
    s = s.to(scale.dtype) / scale[0]
    width = embedding[0][-1].weight.shape[0]
    a = torch.zeros((len(points), len(orders), width), dtype=scale.dtype, device=points.device)
    for t, net in enumerate(embedding):
        chosen = torch.nonzero(batch.atom_type[j] == t)[:, 0]
        g = net(s[chosen, None])
        a = a.index_add(0, i[chosen], environment[chosen, :, None] * g[:, None, :])
        if padding is not None:
            a = padding.added(a, t, net, scale, i[chosen])
    return a


def pair_statistics(batch: Batch, points: Tensor, point_frame: Tensor, l_max: int, radial: dict) -> tuple[int, Tensor]:
    """Largest number of neighbours, root mean square of R per l [l_max + 1] (DeePMD-kit's N and dstd, davg = 0).

    l = 0 has the standard deviation of s, the others the deviation per component, over real neighbours only.
    """
    i, _, vector = frame_pairs(batch, points, point_frame, radial["rcut"])
    if not len(i):
        return 1, torch.ones(l_max + 1, dtype=torch.float64)
    s, environment = pair_environment(vector, l_max, **radial)
    deviation = [s.std(unbiased=False)]
    for order in range(1, l_max + 1):
        deviation.append(environment[:, order**2 : (order + 1) ** 2].square().mean().sqrt())
    return int(torch.bincount(i).max()), torch.stack(deviation).clamp_min(1e-2)


def slot_statistics(batch: Batch, points: Tensor, point_frame: Tensor, l_max: int, radial: dict, n_types: int):
    """DeePMD-kit's sel [n_types], davg and dstd [l_max + 1]: over all rows of a point, the empty ones among them."""
    i, j, vector = frame_pairs(batch, points, point_frame, radial["rcut"])
    counts = torch.bincount(i * n_types + batch.atom_type[j], minlength=len(points) * n_types)
    slots = counts.reshape(len(points), n_types).amax(0)
    rows = max(1, len(points) * int(slots.sum()))
    s, environment = pair_environment(vector, l_max, **radial)
    mean = s.sum() / rows
    deviation = [(s.square().sum() / rows - mean**2).clamp_min(0.0).sqrt()]
    for order in range(1, l_max + 1):
        square = environment[:, order**2 : (order + 1) ** 2].square().sum() / (rows * (2 * order + 1))
        deviation.append(square.sqrt())
    return slots, mean, torch.stack(deviation).clamp_min(1e-2)
