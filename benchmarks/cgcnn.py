"""CGCNN on local environments at the sizes of its public code: whole predictions beside the public network in torch.

    python -m benchmarks.cgcnn [--points 4096] [--naive 512] [--repeats 5] [--threads 1 2] [--quick]

Rattled argon, magnesium oxide and diamond (a lattice of 3.30 Angstrom): 7, 28 and 60 atoms within 4 Angstrom of a
point on average. Weights are random and equal, float32; the two must agree to 1e-5 of the largest output.

public network   the modules of CGCNN's public code in eval mode: every graph padded to 12 neighbours per node, z_ij =
                 [x_i, x_j, g_ij] through one linear map per edge. Its graphs are ready and not counted. The messages of
                 padding are multiplied by zero, as in dcharge, where they do not exist.
dcharge          from structure and points to outputs: graphs, layers, means (crystal_network), the two hidden layers
ops one by one   the same from local_environments, crystal_convolution and torch's matrix products

The last rows are a whole grid at one spacing for growing supercells: the time per atom stays.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

from .cases import DIAMOND, FCC, _crystal, interleaved, rate, report, threads_label
from .naive import some_tiles

RCUT, CUTOFF = 4.0, 8.0  # Angstrom: of a point, end of the Gaussians
NEIGHBORS, TIE = 12, 0.0  # of a node: padding has no room for those that are as far as the last one
N_FEATURES, N_LAYERS, N_HIDDEN, WIDTH = 64, 3, 2, 128
STEP = 0.2  # Angstrom, between the Gaussians and their width
N_KNOTS = 1024
CHUNK = 16  # points of the public network at once: larger chunks leave the caches and are slower
TILE = 1024  # points of dcharge at once
AGREE = 1e-5  # of the largest output
SPACING = 0.25  # Angstrom, of the grids of the last rows
ROCKSALT = np.concatenate([FCC, FCC + [2.0, 0.0, 0.0]])


def magnesium_oxide(repeat: int):
    """Rattled rocksalt, 8 repeat^3 atoms (0.107 atoms/Angstrom^3), as a Structure."""
    crystal = _crystal(ROCKSALT, 12, 4.21, repeat, 0.07, 0)
    return crystal.with_(numbers=np.tile([12] * 4 + [8] * 4, repeat**3))


SYSTEMS = {  # atoms near a point -> structure of so many cells along an edge, least ratio
    7: (lambda n: _crystal(FCC, 18, 5.35, n, 0.1, 0), 5.0),
    28: (magnesium_oxide, 8.0),
    60: (lambda n: _crystal(DIAMOND, 6, 3.30, n, 0.05, 0), 8.0),
}


class Convolution(nn.Module):
    """The public code's gated convolution on padded graphs; missing [n_nodes, 12, 1] is zero for padding."""

    def __init__(self, n_gaussians: int):
        super().__init__()
        self.fc = nn.Linear(2 * N_FEATURES + n_gaussians, 2 * N_FEATURES)
        self.bn1, self.bn2 = nn.BatchNorm1d(2 * N_FEATURES), nn.BatchNorm1d(N_FEATURES)

    def forward(self, x, edges, index, there):
        """x [n_nodes, F], edges [n_nodes, 12, n_gaussians], index [n_nodes, 12] -> [n_nodes, F]"""
        n, k = index.shape
        z = torch.cat([x[:, None].expand(n, k, N_FEATURES), x[index], edges], 2)
        u = self.bn1(self.fc(z).view(-1, 2 * N_FEATURES)).view(n, k, 2 * N_FEATURES)
        gate, core = u.chunk(2, 2)
        total = (torch.sigmoid(gate) * softplus(core) * there).sum(1)
        return softplus(x + self.bn2(total))


class PublicNetwork(nn.Module):
    """CGCNN with random weights, statistics of its batch norms included; first states of the species are a table."""

    def __init__(self, n_species: int):
        super().__init__()
        self.register_buffer("mu", torch.arange(0.0, CUTOFF + STEP / 2, STEP, dtype=torch.float64))
        self.state = nn.Parameter(torch.randn(n_species + 1, N_FEATURES))
        self.convolutions = nn.ModuleList(Convolution(len(self.mu)) for _ in range(N_LAYERS))
        widths = [N_FEATURES] + [WIDTH] * N_HIDDEN
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.output = nn.Linear(WIDTH, 1)
        for layer in self.convolutions:
            for norm in (layer.bn1, layer.bn2):
                nn.init.normal_(norm.weight, 1.0, 0.1), nn.init.normal_(norm.bias, 0.0, 0.1)
                norm.running_mean.normal_(0.0, 0.1), norm.running_var.uniform_(0.5, 1.5)
        self.eval().requires_grad_(False)

    def gaussians(self, distance: torch.Tensor) -> torch.Tensor:
        """g [..., 41] of float64 distances."""
        return torch.exp(-(((distance[..., None] - self.mu) / STEP) ** 2)).float()

    def head(self, mean: torch.Tensor) -> torch.Tensor:
        """Means of the last states [n, F] -> [n]."""
        x = softplus(mean)
        for layer in self.hidden:
            x = softplus(layer(x))
        return self.output(x)[:, 0]

    def forward(self, species, index, distance, there, point, count):
        """A chunk of padded graphs -> [n_points]."""
        x, edges = self.state[species], self.gaussians(distance)
        for layer in self.convolutions:
            x = layer(x, edges, index, there)
        return self.head(x.new_zeros(len(count), N_FEATURES).index_add(0, point, x) / count[:, None])

    def split(self):
        """The same layers with their linear maps taken apart and the batch norms folded, for `crystal_network`."""
        from dcharge.ops import CrystalLayer, CrystalNetwork

        knots, layers = self.gaussians(torch.linspace(0, CUTOFF, N_KNOTS, dtype=torch.float64)), []
        for layer in self.convolutions:
            (first, added), (scale, shift) = map(affine, (layer.bn1, layer.bn2))
            weight, bias = layer.fc.weight * first[:, None], layer.fc.bias * first + added
            center, neighbor, edge = weight.split([N_FEATURES, N_FEATURES, len(self.mu)], 1)
            layers.append(CrystalLayer(center, bias, neighbor, knots @ edge.T, scale, shift))
        return CrystalNetwork(self.state, layers, CUTOFF)


def affine(norm: nn.BatchNorm1d):
    """Factor and summand of a batch norm in eval mode."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return factor, norm.bias - norm.running_mean * factor


class Case:
    """A structure, points of a grid, and the two ways to predict there."""

    def __init__(self, structure, points: np.ndarray, n_naive: int):
        symbols = sorted(set(structure.symbols))
        self.species = torch.tensor([symbols.index(s) for s in structure.symbols])
        torch.manual_seed(1)
        self.network = PublicNetwork(len(symbols))
        self.split, self.packed = self.network.split(), self.network.split().pack()
        self.atoms, cell, pbc = (torch.as_tensor(x) for x in (structure.positions, structure.cell, structure.pbc))
        self.rest = (torch.zeros(len(self.atoms), dtype=torch.int64), cell[None], pbc[None])
        self.points = torch.as_tensor(points)
        self.chunks = [self.padded(part) for part in self.points[:n_naive].split(CHUNK)]

    def padded(self, points: torch.Tensor):
        """Graphs of some points with 12 edges for every node: arguments of PublicNetwork."""
        from dcharge.ops import local_environments

        frame = torch.zeros(len(points), dtype=torch.int64)
        node_offset, node_atom, offset, target, distance = local_environments(
            points, frame, self.atoms, *self.rest, rcut=RCUT, neighbors=NEIGHBORS, tie=TIE
        )
        n, degree = len(node_atom), offset.diff()
        node = torch.repeat_interleave(torch.arange(n), degree)
        column = torch.arange(len(target)) - offset[node]
        index, far = torch.zeros(n, NEIGHBORS, dtype=torch.int64), torch.full((n, NEIGHBORS), 9.0, dtype=torch.float64)
        index[node, column], far[node, column] = target, distance
        there = (torch.arange(NEIGHBORS) < degree[:, None]).float()[:, :, None]
        species = torch.where(node_atom < 0, len(self.split.state) - 1, self.species[node_atom])
        count = node_offset.diff()
        return species, index, far, there, torch.repeat_interleave(torch.arange(len(count)), count), count

    @torch.inference_mode()
    def public(self) -> torch.Tensor:
        """The public network on the padded graphs."""
        return torch.cat([self.network(*chunk) for chunk in self.chunks])

    @torch.inference_mode()
    def predict(self, network) -> torch.Tensor:
        """dcharge at all points."""
        from dcharge.ops import crystal_network

        options, out = dict(rcut=RCUT, neighbors=NEIGHBORS, tie=TIE), []
        for points in self.points.split(TILE):
            geometry = (points, torch.zeros(len(points), dtype=torch.int64), self.atoms, self.species, *self.rest)
            out.append(self.network.head(crystal_network(*geometry, network, **options)[0][:, 0]))
        return torch.cat(out)


def grid_points(structure, shape: int, n: int) -> np.ndarray:
    """About n points of a grid shape^3: tiles spread evenly over it."""
    from dcharge import Grid

    grid = Grid((shape,) * 3, structure.cell)
    return np.concatenate([grid.points(index) for index in some_tiles(grid, n, 512)])


def measure(near: int, threads: int, args) -> dict[str, dict]:
    """Rows of one system and number of threads."""
    torch.set_num_threads(threads)
    make, least = SYSTEMS[near]
    structure = make(3)
    edge = structure.cell[0, 0]
    case = Case(structure, grid_points(structure, int(edge / 0.1), args.points), args.naive)
    nodes = sum(len(chunk[0]) for chunk in case.chunks) / min(args.naive, len(case.points))
    calls = {
        "dcharge": lambda: case.predict(case.packed),
        "dcharge, ops one by one": lambda: case.predict(case.split),
        "public network in torch, graphs ready": case.public,
    }
    results = {name: call() for name, call in calls.items()}
    exact = results["public network in torch, graphs ready"]
    for name, result in results.items():
        difference = float((result[: len(exact)] - exact).abs().max() / exact.abs().max())
        if not difference <= AGREE:
            raise SystemExit(f"{name} differs from the public network by {difference:.1e} of the largest output")
    took = interleaved(calls, args.repeats)
    label = f"{nodes - 1:.1f} atoms near a point, {threads_label(threads)}"
    rows = {f"{label}: {name}": rate(len(results[name]), took[name]) for name in calls}
    slow = rows[f"{label}: public network in torch, graphs ready"]["value"]
    for name in list(calls)[:2]:
        row = rows[f"{label}: {name}"]
        row |= {"ratio": row["value"] / slow, "of": "x the public network"}
    if threads == 1:
        row = rows[f"{label}: dcharge"]
        row |= {"target": f">= {least:g} x", "met": row["ratio"] >= least}
    return rows


def growth(repeats: list[int], rounds: int) -> dict[str, dict]:
    """A whole grid of growing supercells of magnesium oxide, one thread."""
    torch.set_num_threads(1)
    cases = {}
    for repeat in repeats:
        structure = magnesium_oxide(repeat)
        shape = round(structure.cell[0, 0] / SPACING)
        cases[repeat] = Case(structure, grid_points(structure, shape, shape**3), 1)
    calls = {repeat: lambda case=case: case.predict(case.packed) for repeat, case in cases.items()}
    calls[repeats[0]]()
    took, rows = interleaved(calls, rounds), {}
    least = took[repeats[0]].wall / len(cases[repeats[0]].atoms)
    for repeat, case in cases.items():
        per_atom = took[repeat].wall / len(case.atoms)
        rows[f"whole grid of {SPACING:g} Angstrom, 1 thread: {len(case.atoms)} atoms"] = {
            "value": 1e3 * per_atom, "unit": "ms per atom", "seconds": took[repeat].wall,
            "ratio": per_atom / least, "of": f"x the time per atom of {len(cases[repeats[0]].atoms)} atoms",
        }  # fmt: skip
    return rows


def main() -> None:
    """Measure every system and number of threads and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=4096, help="points of dcharge (default: 4096)")
    parser.add_argument("--naive", type=int, default=512, help="points of the public network (default: 512)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    sizes = [2, 3, 4, 6]
    if args.quick:
        args.points, args.naive, args.repeats, args.threads, sizes = 512, 32, 1, [1], [1, 2]
    rows = {}
    for near in SYSTEMS:
        for threads in args.threads:
            rows |= measure(near, threads, args)
    rows |= growth(sizes, 1 if args.quick else 3)
    report(rows)


if __name__ == "__main__":
    main()
