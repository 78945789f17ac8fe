"""DeepDFT's public networks (github.com/peterbjorgensen/DeepDFT), its batches of graphs and its run folders.

Imports nothing of dcharge: it runs in a peer's Python, too. A checkout's `densitymodel.py` and `layer.py` need torch
and ASE only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

LAYERS, WIDTH, CUTOFF = {"painn": 3, "schnet": 6}, 128, 4.0  # of its pretrained models
LEARNING_RATE, DECAY, DECAY_STEPS = 1e-4, 0.96, 100_000  # of its runner.py


def networks(checkout, family: str):
    """The public module of a family, `painn` or `schnet`, with random weights. ImportError without torch or ASE."""
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    import densitymodel

    kind = densitymodel.PainnDensityModel if family == "painn" else densitymodel.DensityModel
    return kind(LAYERS[family], WIDTH, CUTOFF)


def encode(model, atoms: dict) -> tuple:
    """The states of the atoms in all layers, as arguments of `model.probe_model`."""
    code = model.atom_model(atoms)
    return code if isinstance(code, tuple) else (code,)


def collate(graphs: list[dict]) -> dict:
    """A batch from graphs of single structures: arrays padded, numbers stacked, as its collate function does it."""
    from layer import pad_and_stack

    return {key: pad_and_stack([graph[key] for graph in graphs]) for key in graphs[0]}


def step(model, optimizer, graph: dict, target) -> None:
    """One training step: squared error of all points [n_structures, n_points], backward pass, optimizer."""
    import torch

    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(graph), target).backward()
    optimizer.step()


def save_run(folder: Path, family: str, model, optimizer=None, **more) -> None:
    """A run folder as its runner.py leaves it: arguments.json and best_model.pth (written last)."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    options = {"cutoff": CUTOFF, "num_interactions": LAYERS[family], "node_size": WIDTH}
    options |= {"use_painn_model": family == "painn", "ignore_pbc": False, "force_pbc": False}
    (folder / "arguments.json").write_text(json.dumps(options) + "\n")
    content = {"model": model.state_dict(), **more}
    if optimizer is not None:
        content["optimizer"] = optimizer.state_dict()
    torch.save(content, folder / "best_model.pth")
