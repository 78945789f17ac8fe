"""CGCNN on local environments: a graph network on the atoms around every point (Gong et al. 2019; Xie, Grossman 2018).

The graph of a point holds the point itself ("probe", a species of its own) and the atoms within rcut of it, those at
exactly rcut included (op `local_environments`). With x_i the state of node i and
g_k(d) = exp(-(d - k step)^2/step^2), k step = 0 .. 2 rcut:

    u_ij = norm_edges(W (x_i, x_j, g(d_ij)) + b),   s_i = sum_j sigmoid(u_ij[:F]) softplus(u_ij[F:])
    x_i <- softplus(x_i + norm_nodes(s_i)),         rho = net(softplus(mean over all nodes of x_i))

The probe is a node that the atoms see, so every point has a graph of its own and nothing is encoded once but what
depends on weights alone: W is taken apart into centre, neighbour and edge, the last is a table over the distance, and
the batch norms are folded into them (op `crystal_convolution`). Atoms enter a graph in steps and neighbours are chosen
by rank: the density is not continuous.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch
from ..ops import CrystalNetwork, crystal_network, local_environments
from ..ops.library import compiled_for
from .crystal import CrystalCode, CrystalModel
from .environments import Environments
from .pairs import blocks

# nodes whose states lie in memory at once: in the second-level cache; a GPU wants many
NODES, NODES_CUDA = 2048, 1 << 18


@dataclass
class CgcnnCode(CrystalCode):
    """network: species and convolutions for `crystal_network`, where its kernel answers: on a CPU, without gradients"""

    network: CrystalNetwork | None = None


class Cgcnn(CrystalModel):
    """A graph per point; its vector is the mean over all nodes."""

    tile = 512

    def __init__(self, config: dict, seed: int = 1):
        super().__init__(config, seed)
        self.all_layers = config["pool"] == "all_layers"

    def encode(self, batch: Batch) -> CgcnnCode:
        """First states of all species; the convolutions, packed where one kernel answers all of them."""
        code = CgcnnCode(**vars(super().encode(batch)))
        if code.folded and not torch.is_grad_enabled() and not code.species.is_cuda and compiled_for(self.device):
            network = CrystalNetwork(code.species, code.folded, self.cutoff, self.all_layers).pack()
            code.network = network if network.packed else None
        return code

    def pooled(self, code: CgcnnCode, points: Tensor, point_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Means over the nodes [n, n_features], and which points have atoms near [n, 1]."""
        near = code.batch.near(points, self.radius)
        if code.network is not None and not torch.is_grad_enabled():
            where = points, point_frame, near.atoms, near.atom_type, near.atom_frame, near.cell, near.pbc
            means, n_nodes = crystal_network(*where, code.network, rcut=self.rcut, neighbors=self.n_neighbors)
            return means.mean(1), n_nodes[:, None] > 1
        graphs = self.graphs(near, points, point_frame)
        some = graphs.n_nodes[:, None] > 1
        if code.folded is None:  # statistics of a batch need all of it at once
            return self.means(code, graphs), some
        most = NODES_CUDA if points.is_cuda else NODES
        means = [self.output_scale.new_zeros((0, self.n_features))]
        means += [self.means(code, graphs.part(start, stop)) for start, stop, _ in blocks(graphs.n_nodes, most)]
        return torch.cat(means), some

    def graphs(self, batch: Batch, points: Tensor, point_frame: Tensor) -> Environments:
        """The local environments of points."""
        where = points, point_frame, batch.atoms, batch.atom_frame, batch.cell, batch.pbc
        found = local_environments(*where, rcut=self.rcut, neighbors=self.n_neighbors)
        return Environments(batch.atom_type, *found, cutoff=self.cutoff, n_types=self.n_types)

    def means(self, code: CgcnnCode, graphs: Environments) -> Tensor:
        """Means over the nodes (and, all_layers, over the layers) of graphs that memory holds [n, n_features]."""
        x, sums = code.species.index_select(0, graphs.species), self.sums(code, graphs.edges)
        pools = [graphs.mean(x)] if self.all_layers else []
        for t in range(self.n_layers):
            x = self.convolved(code, t, x, graphs.edges, sums)
            if self.all_layers or t == self.n_layers - 1:
                pools.append(graphs.mean(x))
        return torch.stack(pools).mean(0) if self.all_layers else pools[0]
