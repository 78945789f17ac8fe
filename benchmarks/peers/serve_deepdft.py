"""DeepDFT's PaiNN model (github.com/peterbjorgensen/DeepDFT) at its public sizes, random weights.

    python serve_deepdft.py PROBLEM.npz FOLDER      # FOLDER: a checkout of DeepDFT

Its `densitymodel.py` and `layer.py` need torch and ASE only. Atoms are encoded once, as its predict_with_model.py does;
what is timed is the list of neighbours of a batch of points (a k-d tree; its own needs the package asap3) and the
probe half of its model, without gradients.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from lists import pairs
from serve import missing, private_stdout, serve

LAYERS, WIDTH, CUTOFF = 3, 128, 4.0  # of its pretrained models


def probe_graph(system: dict, points) -> dict:
    """What its collate function gives for one structure and these points."""
    import torch

    edges, shifts = pairs(system["positions"], system["cell"], points, CUTOFF)
    return system["atoms"] | {
        "probe_edges": torch.from_numpy(edges)[None],
        "probe_edges_displacement": torch.from_numpy(shifts).float()[None],
        "num_probe_edges": torch.tensor([len(edges)]),
        "num_probes": torch.tensor([len(points)]),
        "probe_xyz": torch.from_numpy(points).float()[None],
    }


def read_system(name: str, data) -> dict:
    """One structure as its collate function gives it, and its points."""
    import torch

    positions, cell = data[f"{name}/positions"], data[f"{name}/cell"]
    edges, shifts = pairs(positions, cell, positions, CUTOFF)
    others = (edges[:, 0] != edges[:, 1]) | (shifts != 0).any(1)
    edges, shifts = edges[others], shifts[others]
    atoms = {
        "nodes": torch.from_numpy(data[f"{name}/numbers"])[None],
        "num_nodes": torch.tensor([len(positions)]),
        "atom_edges": torch.from_numpy(edges)[None],
        "atom_edges_displacement": torch.from_numpy(shifts).float()[None],
        "num_atom_edges": torch.tensor([len(edges)]),
        "atom_xyz": torch.from_numpy(positions).float()[None],
        "cell": torch.from_numpy(cell).float()[None],
    }
    return {"positions": positions, "cell": cell, "atoms": atoms, "compact": data[f"{name}/compact"]}


def main() -> None:
    """Build the model, then serve."""
    answers = private_stdout()
    problem, folder = np.load(sys.argv[1]), Path(sys.argv[2]).resolve()
    sys.path.insert(0, str(folder))
    try:
        import torch
        from densitymodel import PainnDensityModel
    except ImportError as error:
        print(error, file=sys.stderr)
        missing(answers, "DeepDFT")
    torch.manual_seed(0)
    model = PainnDensityModel(LAYERS, WIDTH, CUTOFF).eval().requires_grad_(False)
    calls, systems = {}, {}
    for name in map(str, problem["systems"]):
        system = systems[name] = read_system(name, problem)
        code = model.atom_model(system["atoms"])

        def predict(system=system, code=code, batches=None):
            points = system["compact"] if batches is None else batches
            return torch.cat([model.probe_model(probe_graph(system, p), *code)[0] for p in points])

        calls[f"{name} PaiNN"] = predict, sum(map(len, system["compact"]))
        system["predict"] = predict

    def check() -> dict:
        """Finite values that do not change when the points move by whole cells: the graphs are periodic."""
        out = {}
        for name, s in systems.items():
            points = s["compact"][0][:64]
            here, there = (s["predict"](batches=[p]) for p in (points, points + s["cell"][0] - 2 * s["cell"][2]))
            out[name] = {"moved": float((here - there).abs().max() / here.abs().max())}
        return out

    about = {"name": "DeepDFT", "torch": torch.__version__}
    serve(answers, about, calls, torch.set_num_threads, check)


if __name__ == "__main__":
    main()
