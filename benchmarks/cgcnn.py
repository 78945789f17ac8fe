"""CGCNN on local environments at the sizes of its public code: whole predictions beside the public network in torch.

    python -m benchmarks.cgcnn [--points 4096] [--naive 512] [--repeats 5] [--threads 1 2] [--quick]

Rattled argon, magnesium oxide and diamond (a lattice of 3.30 Angstrom): 7, 28 and 60 atoms within 4 Angstrom of a
point on average. Weights are random and equal, float32; the two must agree to 1e-4 of the outputs' spread, the largest
less the smallest.

public network   the modules of CGCNN's public code in eval mode: every graph padded to 12 neighbours per node (13 where
                 two are equally far), z_ij = [x_i, x_j, g_ij] through one linear map per edge. Its graphs are ready and
                 not counted. The messages of padding are multiplied by zero: in dcharge they do not exist.
dcharge          the model `cgcnn` from structure and points to densities, without baseline
ops one by one   the same from local_environments, crystal_convolution and torch's matrix products

The last rows are points of grids of one spacing for growing supercells: the time per point (CPU seconds) stays, so the
time for a whole grid grows with the number of atoms.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

from .cases import DIAMOND, FCC, _crystal, interleaved, keep_memory, rate, report, threads_label
from .naive import some_tiles

RCUT, NEIGHBORS, CUTOFF = 4.0, 12, 8.0  # Angstrom, neighbours of a node, end of the Gaussians
N_FEATURES, N_LAYERS, N_HIDDEN, WIDTH = 64, 3, 2, 128  # defaults of the family
STEP = 0.2  # Angstrom, between the Gaussians and their width
CHUNK = 8  # points of the public network at once: larger chunks leave the caches and are slower
TILE = 512  # points of the ops at once
AGREE = 1e-4  # of the spread of the exact outputs: of the largest one, a nearly constant network would always agree
SPACING = 0.3  # Angstrom, of the grids of the last rows
MOST = 0.10  # the time per point may differ by this much from that of the smallest cell
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
    """CGCNN with random weights; first states of the species are a table."""

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
                norm.momentum = None  # statistics are means over all batches
        self.requires_grad_(False)

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

    def model(self, symbols: list[str]):
        """The family `cgcnn` with these weights."""
        from dcharge.config import normalize_model
        from dcharge.models import make_model

        given = {"type": "cgcnn", "type_map": symbols, "species": "learned", "baseline": {"type": "none"}}
        model, names = make_model(normalize_model(given), 1), {"fc": "full", "bn1": "norm_edges", "bn2": "norm_nodes"}
        weights = {k: v for k, v in model.state_dict().items() if k.startswith("output_")} | {"states": self.state}
        for key, value in self.state_dict().items():
            if key not in ("mu", "state") and not key.endswith("num_batches_tracked"):
                weights[".".join(names.get(part, part) for part in key.split("."))] = value
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)


class Case:
    """A structure, points of a grid, and the two ways to predict there."""

    def __init__(self, structure, points: np.ndarray, n_naive: int):
        from dcharge.predict import Predictor

        symbols = sorted(set(structure.symbols))
        self.species = torch.tensor([symbols.index(s) for s in structure.symbols])
        torch.manual_seed(1)
        self.network, self.structure = PublicNetwork(len(symbols)), structure
        self.atoms, cell, pbc = (torch.as_tensor(x) for x in (structure.positions, structure.cell, structure.pbc))
        self.rest = (torch.zeros(len(self.atoms), dtype=torch.int64), cell[None], pbc[None])
        self.points = torch.as_tensor(points)
        self.some = torch.linspace(0, len(points) - 1, n_naive).long()  # of the public network
        self.chunks = [self.padded(part) for part in self.points[self.some].split(CHUNK)]
        for chunk in self.chunks[:8]:  # statistics of the batch norms: states stay of order one, as after training
            self.network.train()(*chunk)
        self.predictor = Predictor(self.network.eval().model(symbols))

    def padded(self, points: torch.Tensor):
        """Graphs of some points with 12 edges for every node: arguments of PublicNetwork."""
        from dcharge.ops import local_environments

        frame = torch.zeros(len(points), dtype=torch.int64)
        node_offset, node_atom, offset, target, distance = local_environments(
            points, frame, self.atoms, *self.rest, rcut=RCUT, neighbors=NEIGHBORS
        )
        n, degree = len(node_atom), offset.diff()
        most = max(NEIGHBORS, int(degree.max()))
        node = torch.repeat_interleave(torch.arange(n), degree)
        column = torch.arange(len(target)) - offset[node]
        index, far = torch.zeros(n, most, dtype=torch.int64), torch.full((n, most), 9.0, dtype=torch.float64)
        index[node, column], far[node, column] = target, distance
        there = (torch.arange(most) < degree[:, None]).float()[:, :, None]
        species = torch.where(node_atom < 0, len(self.network.state) - 1, self.species[node_atom])
        count = node_offset.diff()
        return species, index, far, there, torch.repeat_interleave(torch.arange(len(count)), count), count

    @torch.inference_mode()
    def public(self) -> torch.Tensor:
        """The public network on the padded graphs."""
        return torch.cat([self.network(*chunk) for chunk in self.chunks])

    def predict(self) -> torch.Tensor:
        """dcharge at all points."""
        return torch.as_tensor(self.predictor.at(self.structure, self.points.numpy())[0])

    @torch.inference_mode()
    def ops(self) -> torch.Tensor:
        """dcharge's ops one by one at all points."""
        from dcharge.ops import CrystalNetwork, crystal_network

        code, out = self.predictor.encode(self.structure)[1], []
        network = CrystalNetwork(code.species, code.folded, self.predictor.model.cutoff)
        for points in self.points.split(TILE):
            geometry = (points, torch.zeros(len(points), dtype=torch.int64), self.atoms, self.species, *self.rest)
            means, _ = crystal_network(*geometry, network, rcut=RCUT, neighbors=NEIGHBORS)
            out.append(self.network.head(means[:, 0]))
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
    nodes = sum(len(chunk[0]) for chunk in case.chunks) / len(case.some)
    calls = {
        "dcharge": case.predict,
        "dcharge, ops one by one": case.ops,
        "public network in torch, graphs ready": case.public,
    }
    results = {name: call() for name, call in calls.items()}
    exact = results["public network in torch, graphs ready"]
    for name, result in results.items():
        same = result if result is exact else result[case.some]
        difference = float((same - exact).abs().max() / (exact.max() - exact.min()))
        if not difference <= AGREE:
            raise SystemExit(f"{name} differs from the public network by {difference:.1e} of the outputs' spread")
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


def growth(repeats: list[int], n_points: int, rounds: int) -> dict[str, dict]:
    """The same number of points in growing supercells of magnesium oxide, one thread."""
    torch.set_num_threads(1)
    cases = {}
    for repeat in repeats:
        structure = magnesium_oxide(repeat)
        cases[repeat] = Case(structure, grid_points(structure, round(structure.cell[0, 0] / SPACING), n_points), 1)
    calls = {repeat: case.predict for repeat, case in cases.items()}
    interleaved(calls, 1)
    took, rows = interleaved(calls, rounds), {}
    per_point = {repeat: took[repeat].cpu / len(case.points) for repeat, case in cases.items()}
    for repeat, case in cases.items():
        ratio = per_point[repeat] / per_point[repeats[0]]
        rows[f"{len(case.atoms):,} atoms, 1 thread: dcharge"] = rate(len(case.points), took[repeat]) | {
            "ratio": ratio, "of": f"x the time per point of {len(cases[repeats[0]].atoms)} atoms",
            "target": f"within {100 * MOST:.0f} %", "met": abs(ratio - 1) <= MOST,
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
    keep_memory()
    sizes = [2, 4, 8, 12]
    if args.quick:
        args.points, args.naive, args.repeats, args.threads, sizes = 512, 32, 1, [1], [2, 3]
    rows = {}
    for near in SYSTEMS:
        for threads in args.threads:
            rows |= measure(near, threads, args)
    rows |= growth(sizes, args.points, args.repeats)
    report(rows)


if __name__ == "__main__":
    main()
