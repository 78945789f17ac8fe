"""Graphs of local environments: a point and the atoms around it, one graph per point (Gong et al. 2019).

The nodes of a point's graph are the point itself ("probe") and every atom image nearer than rcut + `tie`. The graph is
an open cluster: node i has edges to the nearest other nodes of the same graph, `neighbors` of them, and to those that
are as far as the last one to within `tie`. Without `tie` the choice among the equal distances of a crystal, and whether
atoms at exactly rcut are in, would be that of rounding, and a rotation would change it. A small cluster has fewer
edges; nothing stands for missing ones.
(Gong, Xie, Zhu, Wang, Fadel, Li, Grossman, Phys. Rev. B 100, 184103, "local environment" graphs; the public script
builds them in a supercell, whose images can become neighbours.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .check import check_geometry, check_integer
from .geometry import shifted
from .library import compiled_for, loaded
from .neighbors import neighbors as neighbor_list

DISTANCES_PER_BLOCK = 1 << 20
TIE = 1e-4  # Angstrom; lengths that differ by less count as equal


def local_environments(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    *,
    rcut: float = 4.0,
    neighbors: int = 12,
    tie: float = TIE,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Graphs of all points. Not differentiable: which atoms and edges there are changes in steps.

    Parameters
      points [n, 3] float64, Angstrom, anywhere (wrapped inside); point_frame [n] int64
      atoms [n_atoms, 3] float64, Angstrom; atom_frame [n_atoms] int64
      cell [n_frames, 3, 3] float64 rows, Angstrom; pbc [n_frames, 3] bool (rows of non-periodic axes are ignored)
      rcut in Angstrom: an atom image is a node where |r_j + shift.cell - r_p| < rcut + tie, also at distance 0
      neighbors: edges of a node, at least 1; tie in Angstrom, >= 0: more where they are as far as the last
        one to within tie
    Returns
      node_offset [n + 1] int64: the nodes of point p are node_offset[p] .. node_offset[p + 1] - 1, the first the probe
      node_atom [n_nodes] int64: index into atoms, -1 for a probe; the atoms of a point sorted by (atom, shift)
      edge_offset [n_nodes + 1] int64: the edges of node i are edge_offset[i] .. edge_offset[i + 1] - 1
      edge_target [n_edges] int64: the other node; the edges of a node sorted by (distance, target)
      edge_distance [n_edges] float64, Angstrom, at most 2 (rcut + tie), whatever rounding does
    A probe without atoms is a node without edges.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    check_local_environments(points, point_frame, atoms, atom_frame, cell, pbc, rcut, neighbors, tie)
    tensors = (points.detach(), point_frame, atoms.detach(), atom_frame, cell, pbc)
    compiled = compiled_for(points.device) and points.device.type == "cpu"
    compute = torch.ops.dcharge.local_environments if compiled else local_environments_reference
    return compute(*tensors, float(rcut), neighbors, float(tie))


def check_local_environments(points, point_frame, atoms, atom_frame, cell, pbc, rcut, neighbors, tie) -> None:
    """Checks of all arguments of local_environments."""
    if not 0 < rcut < float("inf"):
        raise ValueError(f"rcut: a positive length in Angstrom expected, got {rcut}")
    if not 0 <= tie < float("inf"):
        raise ValueError(f"tie: a length in Angstrom >= 0 expected, got {tie}")
    check_integer("neighbors", neighbors, 1)
    check_geometry(points, point_frame, atoms, None, atom_frame, cell, pbc)


@torch.no_grad()
def local_environments_reference(points, point_frame, atoms, atom_frame, cell, pbc, rcut, neighbors, tie):
    """The specification of local_environments in torch; same arguments, checked."""
    n, device = len(points), points.device
    point, atom, vector = nodes(points, point_frame, atoms, atom_frame, cell, pbc, rcut + tie)
    counts = torch.bincount(point, minlength=n) + 1
    node_offset = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    # an atom's node comes after the probes of its own point and of all points before
    slot = torch.arange(len(point), device=device) + point + 1
    n_nodes = len(point) + n
    node_atom = torch.full((n_nodes,), -1, dtype=torch.int64, device=device)
    node_atom[slot] = atom
    place = torch.zeros((n_nodes, 3), dtype=torch.float64, device=device)  # from the point to the node
    place[slot] = vector
    degree, target, distance = [], [counts.new_zeros(0)], [place.new_zeros(0)]
    step = max(1, DISTANCES_PER_BLOCK // int(counts.max()) ** 2) if n else 1
    for start in range(0, n, step):
        block = torch.arange(start, min(start + step, n), device=device)
        column = torch.arange(int(counts[block].max()), device=device)
        there = column < counts[block, None]  # [b, k]
        index = torch.where(there, node_offset[block, None] + column, 0)
        x = place[index]
        d = (x[:, :, None] - x[:, None]).square().sum(-1).sqrt().clamp_(max=2 * (rcut + tie))
        d = torch.where(there[:, None] & (column[:, None] != column), d, torch.inf)
        d, order = torch.sort(d, dim=2, stable=True)
        last = d[:, :, neighbors - 1 : neighbors] if neighbors <= len(column) else torch.inf
        keep = torch.isfinite(d) & (d <= last + tie) & there[:, :, None]
        degree.append(keep.sum(2)[there])
        target.append((node_offset[block, None, None] + order)[keep])
        distance.append(d[keep])
    edge_offset = torch.cat([counts.new_zeros(1), *degree]).cumsum(0)
    return node_offset, node_atom, edge_offset, torch.cat(target), torch.cat(distance)


def nodes(points, point_frame, atoms, atom_frame, cell, pbc, rcut):
    """All pairs of a point and an atom image within rcut: point [e], atom [e], vector [e, 3] from the point to the
    image, sorted by (point, atom, shift)."""
    none = point_frame.new_zeros(0)
    parts = [(none, none, points.new_zeros((0, 3)))]
    for frame in range(len(cell)):
        row = torch.nonzero(point_frame == frame)[:, 0]
        member = torch.nonzero(atom_frame == frame)[:, 0]
        if not len(row) or not len(member):
            continue
        (i, j), shift = neighbor_list(atoms[member], cell[frame], pbc[frame], rcut, points[row])
        point, atom = row[i], member[j]
        parts.append((point, atom, shifted(atoms[atom], shift, cell[frame], pbc[frame]) - points[point]))
    point, atom, vector = (torch.cat(x) for x in zip(*parts, strict=True))
    point, order = torch.sort(point, stable=True)
    return point, atom[order], vector[order]


if loaded():

    @torch.library.register_fake("dcharge::local_environments")
    def _(points, point_frame, atoms, atom_frame, cell, pbc, rcut, neighbors, tie):
        n_nodes, n_edges = (torch.library.get_ctx().new_dynamic_size() for _ in range(2))
        shapes = (points.shape[0] + 1, n_nodes, n_nodes + 1, n_edges)
        return *(point_frame.new_empty((n,)) for n in shapes), points.new_empty((n_edges,))
