"""Crystal-graph convolutions among the atoms, and one from the atoms to every point: fast, and not the published model.

In `cgcnn` the point is a node that the atoms see, so that every point has atom states of its own. Here atoms see atoms
alone, in the whole periodic structure: to the n_neighbors nearest within 2 rcut and those as far as the last one. Their
states after all but the last convolution are computed once per structure. The last convolution is that of the probe,
over all atoms within rcut; what it leaves in the probe's state is the point's vector. Numbers published for CGCNN
densities (Gong et al. 2019) say nothing about this model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch
from ..ops.local_environments import TIE
from .crystal import CrystalCode, CrystalModel
from .environments import Edges
from .pairs import frame_pairs


@dataclass
class ProbeCode(CrystalCode):
    """states [n_atoms, n_features]: of the atoms, as the probes see them."""

    states: Tensor | None = None


class CgcnnProbe(CrystalModel):
    """Atom states once per structure; one sum over its neighbours for every point."""

    encodes_atoms = True

    def encode(self, batch: Batch) -> ProbeCode:
        """States of the atoms after all convolutions but the last."""
        code = ProbeCode(**vars(super().encode(batch)))
        x = code.species[batch.atom_type]
        if self.n_layers > 1:
            edges = atom_edges(batch, self.cutoff, self.n_neighbors)
            sums = self.sums(code, edges)
            for t in range(self.n_layers - 1):
                x = self.convolved(code, t, x, edges, sums)
        code.states = x
        return code

    def pooled(self, code: ProbeCode, points: Tensor, point_frame: Tensor) -> tuple[Tensor, Tensor]:
        """States of the probes [n, n_features], and which points have atoms near [n, 1]."""
        index, n = code.batch.near_index(points, self.radius), len(points)
        i, j, vector = frame_pairs(code.batch.atoms_only(index), points, point_frame, self.radius)
        i, order = torch.sort(i, stable=True)
        states = code.states if index is None else code.states[index]
        # nodes: the points, then the atoms, which only send
        degree = torch.bincount(i, minlength=n + len(states))
        edges = Edges(ends(degree), n + j[order], vector[order].norm(dim=1), self.cutoff)
        x = torch.cat([code.species[-1:].expand(n, -1), states])
        return self.convolved(code, self.n_layers - 1, x, edges, self.sums(code, edges), n), degree[:n, None] > 0


def atom_edges(batch: Batch, cutoff: float, most: int) -> Edges:
    """From every atom to its `most` nearest others or images within cutoff, and those as far as the last one."""
    i, j, vector = frame_pairs(batch, None, None, cutoff)
    d = vector.norm(dim=1).clamp_(max=cutoff)  # rounding may put it behind
    order = torch.argsort(d, stable=True)
    order = order[torch.argsort(i[order], stable=True)]  # by atom, then by distance
    i, j, d = i[order], j[order], d[order]
    offset = ends(torch.bincount(i, minlength=len(batch.atoms)))
    last = torch.minimum(offset[:-1] + most, offset[1:])[i] - 1
    keep = d <= d[last] + TIE
    return Edges(ends(torch.bincount(i[keep], minlength=len(batch.atoms))), j[keep], d[keep], cutoff)


def ends(counts: Tensor) -> Tensor:
    """Where the edges of every node begin and end [n + 1], from their numbers [n]."""
    return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
