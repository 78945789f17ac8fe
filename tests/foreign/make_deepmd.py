"""Makes tests/foreign/deepmd: tiny DeePMD-kit models of the pseudo-atom recipe and the densities DeePMD-kit gives.

Needs deepmd-kit (made with 3.2.0, PyTorch backend), not dcharge:  python tests/foreign/make_deepmd.py
Weights are random, davg and dstd those of the made-up structure. Every frame holds one grid point: DeePMD-kit's
Python neighbour list keeps the sum(sel) nearest atoms of all types, so that many grid points push atoms out of it.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from deepmd.dpmodel.utils.serialization import save_dp_model
from deepmd.pt.model.model import get_model

FOLDER = Path(__file__).parent / "deepmd"
NUMBERS = {"H": 1, "O": 8, "Si": 14}
SKEWED = np.array([[4.6, 0.0, 0.0], [1.1, 4.2, 0.0], [-0.7, 0.6, 5.0]])
N_PROBES = 24
# file -> type_map, atoms, sel, changes of descriptor and fitting net, whether davg is 0
CASES = {
    "si.yaml": (
        ["X", "Si"], ["Si"] * 5, [0, 24], {"precision": "float32"}, {"type": "dos", "precision": "float32"}, False,
    ),
    "water.yaml": (
        ["O", "H", "X"], ["O", "H", "H", "O", "H", "H"], [12, 24, 0],
        {"type_one_side": False, "resnet_dt": True, "activation_function": "gelu"}, {"type": "ener"}, True,
    ),
    "water.dp": (
        ["H", "X", "O"], ["O", "H", "H", "O", "H", "H"], [24, 0, 12], {},
        {"type": "ener", "activation_function": "softplus", "resnet_dt": False, "atom_ener": [None, 0.3, None]}, False,
    ),
    "protected.yaml": (["Si", "X"], ["Si"] * 5, [24, 0], {"env_protection": 0.02}, {"type": "dos"}, False),
}  # fmt: skip


def made_up(symbols, rng):
    """Positions [n, 3] at least 1.2 Angstrom apart, and probes at least 0.3 Angstrom from every atom."""
    shifts = np.array(list(itertools.product(range(-2, 3), repeat=3))) @ SKEWED

    def nearest(a, b):
        return np.linalg.norm(a[:, None, None] - b[:, None] - shifts, axis=-1)

    while True:
        positions = rng.uniform(-0.2, 1.2, (len(symbols), 3)) @ SKEWED
        if (nearest(positions, positions) + 99 * (np.arange(125) == 62) * np.eye(len(symbols))[..., None]).min() > 1.2:
            break
    probes = rng.uniform(0, 1, (4 * N_PROBES, 3)) @ SKEWED
    near = positions[0] + rng.normal(size=(8, 3)) * 0.25
    probes = np.concatenate([near, probes])
    distance = nearest(probes, positions)
    return positions, probes[distance.min((1, 2)) > 0.3][:N_PROBES], distance


def statistics(r, n_rows, rcut, smooth, protection):
    """davg of s, dstd of s and s x/r over n_rows rows; r: distances of the neighbours."""
    u = np.clip((r - smooth) / (rcut - smooth), 0, 1)
    s = (u**3 * (-6 * u * u + 15 * u - 10) + 1) / (r + protection)
    mean = s.sum() / n_rows
    return mean, np.sqrt((s**2).sum() / n_rows - mean**2), np.sqrt((s**2).sum() / 3 / n_rows)


def shortened(x, variable=False):
    """The tree with all numbers rounded to what takes few digits in a text file."""
    if isinstance(x, dict):
        return {k: shortened(v, variable or k == "@variables") for k, v in x.items()}
    if isinstance(x, list):
        return [shortened(v, variable) for v in x]
    return (np.round(x * 256) / 256).astype(x.dtype) if variable and x is not None else x


def main():
    rng = np.random.default_rng(5)
    for name, (type_map, symbols, sel, descriptor, fitting, zero) in CASES.items():
        d = {"type": "se_e2_a", "sel": sel, "rcut": 4.0, "rcut_smth": 0.5, "neuron": [4, 8], "axis_neuron": 3}
        d |= {"type_one_side": True, "precision": "float64", "seed": 1, **descriptor}
        f = {"neuron": [8, 8], "precision": "float64", "seed": 2, **fitting}
        if f["type"] == "dos":
            f["numb_dos"] = 1
        x = type_map.index("X")
        others = [i for i in range(len(type_map)) if i != x]
        config = {"type_map": type_map, "descriptor": d, "fitting_net": f, "atom_exclude_types": others}
        model = get_model(json.loads(json.dumps(config)))
        positions, probes, distance = made_up(symbols, rng)
        r = distance[distance < d["rcut"]]
        rows = len(distance) * sum(sel)
        mean, std_s, std_r = statistics(r, rows, d["rcut"], d["rcut_smth"], d.get("env_protection", 0.0))
        data = model.serialize()
        data["descriptor"]["@variables"]["davg"][:, :, 0] = 0.0 if zero else mean
        data["descriptor"]["@variables"]["dstd"][:] = [std_s, std_r, std_r, std_r]
        data["@variables"]["out_bias"][:] = rng.normal(size=data["@variables"]["out_bias"].shape)
        data["@variables"]["out_std"][:] = 2.0  # what DeePMD-kit does not use for these fittings
        bias = data["fitting"]["@variables"]["bias_atom_e"]
        data["fitting"]["@variables"]["bias_atom_e"] = rng.normal(size=bias.shape)
        for net in data["fitting"]["nets"]["networks"]:  # an output of order one
            net["layers"][-1]["@variables"]["w"] = 3 * net["layers"][-1]["@variables"]["w"]
        model = type(model).deserialize(shortened(data))
        atoms = [type_map.index(s) for s in symbols]
        coord = np.concatenate([np.broadcast_to(positions, (len(probes), *positions.shape)), probes[:, None]], 1)
        out = model(
            torch.tensor(coord.copy()), torch.tensor([[*atoms, x]] * len(probes)),
            box=torch.tensor(np.broadcast_to(SKEWED.reshape(1, 9), (len(probes), 9)).copy()),
        )  # fmt: skip
        key = "atom_energy" if f["type"] == "ener" else "atom_dos" if "atom_dos" in out else "dos"
        density = out[key].detach().numpy().reshape(len(probes), -1)[:, -1]
        save_dp_model(str(FOLDER / name), {"backend": "PyTorch", "model": model.serialize(), "@variables": {}})
        kept = {
            "numbers": [NUMBERS[s] for s in symbols],
            "positions": positions.tolist(),
            "cell": SKEWED.tolist(),
            "probes": probes.tolist(),
            "density": density.tolist(),
            "most_neighbours": int((distance < d["rcut"]).sum((1, 2)).max()),
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(kept) + "\n")
        print(name, kept["most_neighbours"], sum(sel), density.min(), density.max())


if __name__ == "__main__":
    main()
