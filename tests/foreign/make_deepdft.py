"""Makes tests/foreign/deepdft: tiny run folders of DeepDFT's public code and the densities and states that it gives.

Needs torch, ase and a checkout of github.com/peterbjorgensen/DeepDFT (made with a6bab4d), of which only densitymodel.py
and layer.py are imported, not dcharge:  python tests/foreign/make_deepdft.py CHECKOUT
Graphs are made here from all periodic images, for the code's own need asap3. Weights are those after a few steps of
Adam on a made-up density, so that the optimizer's state tells the species.
"""

import importlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "deepdft"
SKEWED = [[4.1, 0.0, 0.0], [1.3, 3.4, 0.0], [-0.9, 0.8, 3.9]]
# name -> atomic numbers, cell, pbc; two of them lower than the cutoff
STRUCTURES = {
    "molecule": ([8, 1, 1, 6], np.eye(3) * 6, [False] * 3),
    "crystal": ([8, 1, 6], SKEWED, [True] * 3),
    "slab": ([6, 1, 8], [[3.2, 0.0, 0.0], [-1.1, 3.6, 0.0], [0.0, 0.0, 12.0]], [True, True, False]),
}
# run -> class, arguments of the run
RUNS = {
    "painn": ("PainnDensityModel", {"num_interactions": 3, "node_size": 6, "cutoff": 4.0, "use_painn_model": True}),
    "schnet": ("DensityModel", {"num_interactions": 3, "node_size": 5, "cutoff": 4.0, "use_painn_model": False}),
    "boxed": ("PainnDensityModel", {"num_interactions": 2, "node_size": 4, "cutoff": 3.5, "use_painn_model": True}),
}
N_PROBES = 10


def shifts_within(cell, pbc, n=5):
    """Integer shifts [m, 3] along periodic axes."""
    return np.array(list(itertools.product(*(range(-n, n + 1) if p else (0,) for p in pbc))))


def edges(targets, positions, cell, pbc, cutoff, same):
    """(sender, receiver) [e, 2] and the sender's displacement in cells [e, 3]; `same`: targets are the atoms."""
    shifts = shifts_within(cell, pbc)
    vectors = positions[None, :, None] + (shifts @ cell)[None, None] - targets[:, None, None]
    near = np.linalg.norm(vectors, axis=-1) < cutoff
    if same:
        home = (shifts == 0).all(1)
        near[np.arange(len(targets)), np.arange(len(targets)), home] = False
    i, j, k = np.nonzero(near)
    return np.stack([j, i], 1), shifts[k]


def made_up(numbers, cell, pbc, rng):
    """Positions [n, 3] at least 1 Angstrom apart, and probes: one on a nucleus, one far away where there is vacuum."""
    cell = np.array(cell, dtype=float)
    shifts = shifts_within(cell, pbc, 2) @ cell
    while True:
        positions = rng.uniform(0.0, 1.0, (len(numbers), 3)) @ np.where(np.array(pbc)[:, None], cell, 3 * np.eye(3))
        distance = np.linalg.norm(positions[:, None, None] - positions[None, :, None] - shifts, axis=-1)
        if distance[distance > 0].min() > 1.0:
            break
    probes = rng.uniform(-0.2, 1.2, (N_PROBES, 3)) @ np.where(np.array(pbc)[:, None], cell, 4 * np.eye(3))
    probes[0] = positions[0]
    if not all(pbc):
        probes[1] = [0.3, 0.1, 40.0]
    return positions, probes, cell


def graph(numbers, positions, cell, pbc, probes, cutoff):
    """What the code's collate function gives for one structure."""
    dtype = torch.get_default_dtype()

    def tensor(x, dtype=dtype):
        return torch.tensor(np.asarray(x), dtype=dtype)[None]

    out = {"nodes": tensor(numbers, torch.int64), "num_nodes": torch.tensor([len(numbers)])}
    for name, targets in (("atom", positions), ("probe", probes)):
        pairs, displacement = edges(targets, positions, cell, pbc, cutoff, name == "atom")
        out |= {f"{name}_edges": tensor(pairs, torch.int64), f"num_{name}_edges": torch.tensor([len(pairs)])}
        out |= {f"{name}_edges_displacement": tensor(displacement), f"{name}_xyz": tensor(targets)}
    return out | {"num_probes": torch.tensor([len(probes)]), "cell": tensor(cell)}


def probe_states(model, given, representation):
    """The density [n_probes], and the scalar states of the probes after every layer: outputs of the submodules."""
    probe, states, hooks = model.probe_model, [], []
    if hasattr(probe, "scalar_vector_update"):
        for module in probe.scalar_vector_update:
            hooks.append(module.register_forward_hook(lambda m, i, out: states.append(out[0])))
    else:  # the gate's input is the state before a layer, the readout's that after the last one
        for module in [*list(probe.probe_state_gate_functions)[1:], probe.readout_function]:
            hooks.append(module.register_forward_hook(lambda m, i, out: states.append(i[0])))
    density = probe(given, *representation)[0]
    for hook in hooks:
        hook.remove()
    return density, states


def numbers_of(x):
    """Nested lists."""
    return x.detach().numpy().tolist()


def main():
    sys.path.insert(0, sys.argv[1])
    code = importlib.import_module("densitymodel")
    rng = np.random.default_rng(7)
    made = {name: (n, *made_up(n, cell, pbc, rng), pbc) for name, (n, cell, pbc) in STRUCTURES.items()}
    for run, (kind, arguments) in RUNS.items():
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(3)
        cutoff, ignored = arguments["cutoff"], run == "boxed"
        model = getattr(code, kind)(arguments["num_interactions"], arguments["node_size"], cutoff)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.96 ** (step / 100000))
        periodic = {name: [False] * 3 if ignored else pbc for name, (*_, pbc) in made.items()}
        for _ in range(20):
            for name, (numbers, positions, probes, cell, _pbc) in made.items():
                near = np.linalg.norm(probes[:, None] - positions, axis=-1).min(1)
                target = torch.tensor(np.exp(-near), dtype=torch.float32)
                optimizer.zero_grad()
                error = model(graph(numbers, positions, cell, periodic[name], probes, cutoff))[0] - target
                error[np.linalg.norm(probes, axis=1) < 30].square().mean().backward()
                optimizer.step()
                scheduler.step()
        folder = FOLDER / run
        folder.mkdir(parents=True, exist_ok=True)
        given = {"load_model": None, "split_file": None, "output_dir": "runs", "dataset": "data.txt", "device": "cpu"}
        given |= arguments | {"max_steps": 60, "ignore_pbc": ignored, "force_pbc": False}
        (folder / "arguments.json").write_text(json.dumps(given))
        content = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        }
        torch.save(content | {"step": 60, "best_val_mae": 0.1}, folder / "best_model.pth")
        known = {}
        for name, (numbers, positions, probes, cell, pbc) in made.items():
            kept = {"numbers": numbers, "positions": positions.tolist(), "cell": cell.tolist(), "pbc": pbc}
            kept["probes"] = probes.tolist()
            for dtype in (torch.float32, torch.float64):
                torch.set_default_dtype(dtype)
                model.to(dtype)
                x = graph(numbers, positions, cell, periodic[name], probes, cutoff)
                representation = model.atom_model(x)
                representation = representation if isinstance(representation, tuple) else (representation,)
                density, states = probe_states(model, x, representation)
                word = str(dtype).split(".")[1]
                kept[word] = {"density": numbers_of(density)}
                if dtype == torch.float64:
                    kept[word]["atoms"] = [[numbers_of(s) for s in layers] for layers in representation]
                    kept[word]["probes"] = [numbers_of(s) for s in states]
                print(run, name, word, x["num_probe_edges"].item(), density.min().item(), density.max().item())
            model.to(torch.float32)
            known[name] = kept
        (FOLDER / f"{run}.json").write_text(json.dumps(known) + "\n")


if __name__ == "__main__":
    main()
