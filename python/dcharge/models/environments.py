"""Edges, the graphs of a batch of points, and sums over edges for CGCNN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops import crystal_convolution

EDGES = 1 << 14  # whose Gaussians lie in memory at once


@dataclass
class Edges:
    """Directed edges of a graph: those of node i are offset[i] .. offset[i + 1] - 1.

    offset [n_nodes + 1] and target [n_edges] int64; distance [n_edges] float64, Angstrom, none above cutoff
    """

    offset: Tensor
    target: Tensor
    distance: Tensor
    cutoff: float

    def convolution(self, center: Tensor, neighbor: Tensor, table: Tensor) -> Tensor:
        """The gated sums [n_nodes, n_features] of op `crystal_convolution`."""
        return crystal_convolution(center, neighbor, self.offset, self.target, self.distance, table, cutoff=self.cutoff)


class Environments:
    """Graphs as op `local_environments` gives them, with the species [n_nodes] of their nodes (n_types: the probe).

    n_nodes [n_points] int64: nodes of every point; edges: of all graphs
    """

    def __init__(self, atom_type, node_offset, node_atom, *edges, cutoff: float, n_types: int):
        self.node_offset, self.edges = node_offset, Edges(*edges, cutoff)
        types = torch.cat([atom_type, atom_type.new_full((1,), n_types)])
        self.species = types[node_atom]  # -1, the probe, is the last one
        self.n_nodes = node_offset.diff()

    def part(self, start: int, stop: int) -> Environments:
        """The graphs of the points from `start` to before `stop`."""
        out, edges = object.__new__(Environments), self.edges
        first, last = self.node_offset[[start, stop]].tolist()
        begin, end = edges.offset[[first, last]].tolist()
        out.node_offset = self.node_offset[start : stop + 1] - first
        offset, target = edges.offset[first : last + 1] - begin, edges.target[begin:end] - first
        out.edges = Edges(offset, target, edges.distance[begin:end], edges.cutoff)
        out.species, out.n_nodes = self.species[first:last], self.n_nodes[start:stop]
        return out

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the nodes of every point: x [n_nodes, n_features] -> [n_points, n_features]."""
        point = torch.repeat_interleave(self.n_nodes)
        total = x.new_zeros((len(self.n_nodes), x.shape[1])).index_add(0, point, x)
        return total / self.n_nodes[:, None].to(x.dtype)


class EdgeSums:
    """Mean and variance over all edges of u_ij = center_i + neighbor_j + W g(d_ij), without listing u.

    The variance of a sum of three terms is a sum over nodes, once the sums of g over the edges of every node (out),
    into every node (into) and of its products (square) are known, g without its mean, divided by the number of edges
    (out and into: by half of it). These depend on the graphs alone and serve all layers.
    """

    def __init__(self, edges: Edges, gaussians, dtype):
        self.edges, self.n = edges, len(edges.target)
        degree, target = edges.offset.diff(), edges.target
        n_nodes = len(degree)
        node = torch.repeat_interleave(degree)
        width = len(gaussians.centers)
        self.out, self.into = (torch.zeros((n_nodes, width), dtype=dtype, device=node.device) for _ in range(2))
        square = torch.zeros((width, width), dtype=torch.float64, device=node.device)
        for d, i, j in zip(*(x.split(EDGES) for x in (edges.distance, node, target)), strict=True):
            g = gaussians(d, dtype)
            self.out.index_add_(0, i, g)
            self.into.index_add_(0, j, g)
            square += g.T @ g
        count = max(1, self.n)
        self.of_center = (degree.double() / count).to(dtype)[:, None]
        self.of_neighbor = (torch.bincount(target, minlength=n_nodes).double() / count).to(dtype)[:, None]
        mean = self.out.sum(0, dtype=torch.float64) / count
        self.square = (square / count - mean[:, None] * mean).to(dtype)
        self.mean = mean.to(dtype)
        self.out = (self.out / count - self.of_center * self.mean).mul_(2)
        self.into = (self.into / count - self.of_neighbor * self.mean).mul_(2)

    def moments(self, center: Tensor, neighbor: Tensor, of_edge: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [width] for center, neighbor [n_nodes, width] and W [width, n_gaussians]."""
        mean_c, mean_n = (self.of_center.T @ center)[0], (self.of_neighbor.T @ neighbor)[0]
        c, n = center - mean_c, neighbor - mean_n
        received = torch.nn.functional.embedding_bag(
            self.edges.target, n, self.edges.offset, mode="sum", include_last_offset=True
        )
        # sums over edges of c^2 + 2 c n + 2 c Wg,  n^2 + 2 n Wg,  (Wg)^2, divided by their number
        of_c = torch.addmm(received, self.out, of_edge.T, beta=2.0 / max(1, self.n))
        by_center = c * torch.addcmul(of_c, c, self.of_center)
        by_neighbor = n * torch.addcmul(self.into @ of_edge.T, n, self.of_neighbor)
        by_edge = ((of_edge @ self.square) * of_edge).sum(1)
        variance = by_center.sum(0) + by_neighbor.sum(0) + by_edge
        return mean_c + mean_n + of_edge @ self.mean, variance.clamp_min(0.0)
