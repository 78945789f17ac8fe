"""DeepDFT's public networks with random weights that are saved as run folders; prediction and training steps.

    python serve_deepdft_equal.py PROBLEM.npz CHECKOUT RUNS      # RUNS/<family>: written here

Its graph builder `dataset.py` asks for the package asap3. That is stood in for by the wrapper of ASE's neighbour list
in the same file, which it takes by itself for small cells: points become atoms of their own, and all pairs are found.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
from deepdft_nets import CUTOFF, LAYERS, LEARNING_RATE, collate, encode, networks, save_run, step
from serve import missing, private_stdout, serve
from serve_deepdft import probe_graph, read_system


def graph_builder():
    """Its dataset.py, without asap3; lz4, which only its reader of compressed files needs, may be absent."""
    asap3 = sys.modules["asap3"] = types.ModuleType("asap3")
    if importlib.util.find_spec("lz4") is None:
        sys.modules["lz4"], sys.modules["lz4.frame"] = types.ModuleType("lz4"), types.ModuleType("lz4.frame")
        sys.modules["lz4"].frame = sys.modules["lz4.frame"]
    import dataset

    asap3.FullNeighborList = dataset.AseNeigborListWrapper
    return dataset


def predictions(model, system: dict, dataset, data, name: str):
    """Two functions that give the density of one structure: at points [n, 3] with a ready graph, and end to end.

    End to end is what its predict_with_model.py does for slices of the grid, without its worker processes.
    """
    import torch
    from ase import Atoms

    code = encode(model, system["atoms"])
    numbers, box = data[f"{name}/numbers"], data[f"{name}/box"]
    atoms = Atoms(numbers, data[f"{name}/positions"], cell=box, pbc=bool(data[f"{name}/periodic"]))
    slices = data[f"{name}/slices"]
    grid = slices.reshape(-1, 1, 1, 3)  # as its grid of points, of which a slice takes the next ones

    def ready(graphs):
        return torch.cat([model.probe_model(graph, *code)[0] for graph in graphs])

    def end_to_end():
        out = []
        for i in range(len(slices)):
            part = dataset.DensityGridIterator.static_get_slice(i, atoms, grid, slices.shape[1], CUTOFF)
            graph = dataset.collate_list_of_dicts([{key: torch.tensor(value) for key, value in part.items()}])
            out.append(model.probe_model(system["atoms"] | graph, *code)[0])
        return torch.cat(out)

    return ready, end_to_end


def training(model, data, names):
    """A function that does one training step on a ready batch of these structures."""
    import torch

    graphs, targets = [], []
    for name in names:
        system = read_system(name, data)
        graph = probe_graph(system, data[f"{name}/training"])
        graphs.append({key: value[0] for key, value in graph.items()})
        targets.append(torch.from_numpy(data[f"{name}/target"]).float())
    batch, target = collate(graphs), torch.stack(targets)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return lambda: step(model, optimizer, batch, target)


def main() -> None:
    """Build both families, save them, then serve."""
    answers = private_stdout()
    data, checkout, runs = np.load(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3])
    try:
        import torch

        models = {}
        for family in LAYERS:
            torch.manual_seed(0)
            models[family] = networks(checkout, family)
        dataset = graph_builder()
    except ImportError as error:
        print(error, file=sys.stderr)
        missing(answers, "DeepDFT")
    calls, told = {}, {}
    for family, model in models.items():
        save_run(runs / family, family, model)
        frozen = networks(checkout, family).requires_grad_(False).eval()
        frozen.load_state_dict(model.state_dict())
        for name in map(str, data["systems"]):
            key, system = f"{name} {family}", read_system(name, data)
            ready, end_to_end = predictions(frozen, system, dataset, data, name)
            graphs = [probe_graph(system, points) for points in system["compact"]]
            calls[f"{key} networks"] = (lambda f=ready, g=graphs: f(g)), sum(map(len, system["compact"]))
            calls[f"{key} end to end"] = end_to_end, data[f"{name}/slices"][..., 0].size
            pair = training(model, data, [name, f"{name} moved"])
            calls[f"{key} training"] = pair, 2 * len(data[f"{name}/training"])
            few = [probe_graph(system, points) for points in data[f"{name}/slices"]]
            told[key] = {"networks": (lambda f=ready, g=few: f(g)), "end to end": end_to_end}

    def check() -> dict:
        """Densities by both ways at the points of the slices."""
        return {key: {way: f().tolist() for way, f in ways.items()} for key, ways in told.items()}

    serve(answers, {"name": "DeepDFT", "torch": torch.__version__}, calls, torch.set_num_threads, check)


if __name__ == "__main__":
    main()
