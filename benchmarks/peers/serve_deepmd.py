"""DeePMD-kit on the density: grid points as atoms of a type X (run by a Python that has deepmd-kit >= 3.2).

    python serve_deepmd.py PROBLEM.npz FOLDER

The models are made here, once, and kept in FOLDER: two frames with random labels, a few steps of `dp --pt train`,
`dp freeze`, `dp compress` (speed does not depend on what was learnt). X is no neighbour of anything (`sel` 0 for it),
real atoms have no output (`atom_exclude_types`), and the label is the density of the X atoms: `atom_dos` of a
one-component `dos` fitting, or `atom_ener` of an `ener` fitting. There is a fitting net for every type, X included, and
DeePMD-kit evaluates all of them at every point and masks: two on silicon, three on water.

`DeepDOS.eval`, `DeepPot.eval`: what a user calls. DeePMD-kit's Python list is cut at sum(sel) nearest neighbours of all
types, X included, before X is taken out: with more points a frame than `sel` has room for, atoms are lost without a
word. 32 points are few enough (`check` compares); MANY points a frame are faster a point, and wrong.
`forward_lower`: a model without that room in `sel` (its kernels work on every row), given points as local atoms,
images of atoms as ghosts, and a list by a k-d tree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from lists import images, nearest
from serve import missing, private_stdout, serve

RCUT, STEP = 6.5, 0.01
FEW, FRAMES, MANY = 32, 8, 512
SIZES = {"neuron": [20, 40, 80], "axis_neuron": 16, "rcut": RCUT, "rcut_smth": 0.5}
LOSS = {
    "dos": {"type": "dos"}
    | {f"{when}_pref_{what}": 0 for when in ("start", "limit") for what in ("dos", "cdf", "ados", "acdf")}
    | {"start_pref_ados": 1, "limit_pref_ados": 1},
    "ener": {"type": "ener"}
    | {f"{when}_pref_{what}": 0 for when in ("start", "limit") for what in ("e", "f", "v", "ae")}
    | {"start_pref_ae": 1, "limit_pref_ae": 1},
}


class System:
    """One structure and its points; atoms sorted by type, as DeePMD-kit's files want them."""

    def __init__(self, name: str, data):
        self.name = name
        numbers = data[f"{name}/numbers"]
        self.kinds = sorted(set(numbers.tolist()), reverse=True)
        order = np.argsort([self.kinds.index(z) for z in numbers], kind="stable")
        self.types = np.array([self.kinds.index(z) for z in numbers])[order]
        self.positions, self.cell = data[f"{name}/positions"][order], data[f"{name}/cell"]
        self.spread, self.many, self.compact = (data[f"{name}/{key}"] for key in ("spread", "many", "compact"))
        most = np.zeros(len(self.kinds), dtype=int)
        for points in self.compact:
            where, atom, _ = images(self.positions, self.cell, points, RCUT)
            for kind in range(len(self.kinds)):
                chosen = where[self.types[atom] == kind]
                for block in np.array_split(points, 8):
                    d2 = ((block[:, None] - chosen) ** 2).sum(-1)
                    most[kind] = max(most[kind], (d2 < RCUT**2).sum(1).max())
        # room for every atom near a point and, for the capped list of `eval`, for FEW points too
        self.sel = [int(-(-(m + 2) // 4) * 4) for m in most]
        self.sel_eval = [self.sel[0] + FEW, *self.sel[1:]]

    def frames(self, points):
        """Coordinates [f, 3 n], cells [f, 9] and types [n] of frames with points [f, m, 3] as atoms of type X."""
        atoms = np.broadcast_to(self.positions, (len(points), *self.positions.shape))
        coordinates = np.concatenate([atoms, points], axis=1).reshape(len(points), -1)
        cells = np.tile(self.cell.reshape(1, 9), (len(points), 1))
        return coordinates, cells, np.concatenate([self.types, np.full(points.shape[1], len(self.kinds))])


def model_input(system: System, fitting: str, sel: list[int], folder: str) -> dict:
    """The input of `dp --pt train`."""
    names = [f"Z{z}" for z in system.kinds]
    fit = {"type": fitting, "neuron": [200, 200, 200], "resnet_dt": True, "precision": "float32", "seed": 2}
    if fitting == "dos":
        fit["numb_dos"] = 1
    descriptor = {"type": "se_e2_a", "sel": [*sel, 0], "type_one_side": True, "precision": "float32", "seed": 1}
    return {
        "model": {
            "type_map": [*names, "X"],
            "atom_exclude_types": list(range(len(names))),
            "descriptor": descriptor | SIZES,
            "fitting_net": fit,
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 5},
        "loss": LOSS[fitting],
        "training": {
            "training_data": {"systems": [folder], "batch_size": 1},
            "numb_steps": 4,
            "disp_freq": 2,
            "save_freq": 4,
            "seed": 3,
        },
    }


def write_data(system: System, folder: Path) -> None:
    """Two frames in deepmd/npy with random labels; points closer than 0.5 Angstrom to an atom are left out."""
    points = system.spread[:2].copy()
    edges = np.diag(system.cell)
    for frame in points:
        difference = frame[:, None] - system.positions
        difference -= edges * np.round(difference / edges)
        near = np.linalg.norm(difference, axis=-1).min(1) < 0.5
        frame[near] = frame[np.flatnonzero(~near)[0]] + 0.05 * np.arange(1, near.sum() + 1)[:, None]
    coordinates, cells, types = system.frames(points)
    labels = np.random.default_rng(0).uniform(0, 1, (2, len(types)))
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("\n".join([*(f"Z{z}" for z in system.kinds), "X"]) + "\n")
    arrays = {"coord": coordinates, "box": cells, "atom_dos": labels, "atom_ener": labels}
    total = labels.sum(1, keepdims=True)
    for name, array in (arrays | {"dos": total, "energy": total}).items():
        np.save(folder / f"set.000/{name}.npy", array)


def make_model(system: System, fitting: str, sel: list[int], folder: Path) -> Path:
    """Folder with frozen.pth and compressed.pth of a system; made unless it is there for the same input."""
    place = folder / f"{system.name}-{fitting}-{sum(sel)}"
    text = json.dumps(model_input(system, fitting, sel, "data"), indent=1)
    stamp = place / "made.json"
    if stamp.is_file() and stamp.read_text() == text:
        return place
    write_data(system, place / "data")
    (place / "input.json").write_text(text)
    print(f"DeePMD-kit: training, freezing and compressing {place.name} ...", file=sys.stderr, flush=True)
    frozen, compressed = "frozen.pth", "compressed.pth"
    commands = [
        ["train", "input.json"],
        ["freeze", "-o", frozen],
        ["compress", "-i", frozen, "-o", compressed, "-s", str(STEP)],
    ]
    for arguments in commands:
        with open(place / "log", "a") as log:
            done = subprocess.run(
                [str(Path(sys.executable).with_name("dp")), "--pt", *arguments], cwd=place, stdout=log, stderr=log
            )
        if done.returncode:
            raise SystemExit(f"dp --pt {' '.join(arguments)} failed; see {place / 'log'}")
    stamp.write_text(text)
    return place


class Lower:
    """forward_lower of a frozen model on batches of points; n_rows: sum of the model's `sel`."""

    def __init__(self, path: Path, system: System, n_rows: int):
        import torch

        self.model, self.system, self.n_rows = torch.jit.load(path), system, n_rows

    def __call__(self, batches) -> np.ndarray:
        """Density [n] at all points of the batches [m, 3]."""
        import torch

        s, out = self.system, []
        for points in batches:
            where, atom, index = nearest(s.positions, s.cell, points, RCUT, self.n_rows)
            n = len(points)
            coordinates = torch.from_numpy(np.concatenate([points, where]))[None]
            types = torch.from_numpy(np.concatenate([np.full(n, len(s.kinds)), s.types[atom]]))[None]
            listed = torch.from_numpy(np.where(index >= 0, index + n, -1))[None]
            out.append(self.model.forward_lower(coordinates, types, listed, None)["atom_dos"].detach().numpy()[0, :, 0])
        return np.concatenate(out)


def main() -> None:
    """Make or load the models, then serve."""
    answers = private_stdout()
    problem, folder = np.load(sys.argv[1]), Path(sys.argv[2]).resolve()
    for name in ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        import deepmd
        import torch
        from deepmd.infer import DeepPot
        from deepmd.infer.deep_dos import DeepDOS
    except ImportError as error:
        print(error, file=sys.stderr)
        missing(answers, "deepmd-kit")
    calls, checks = {}, {}
    names = [str(x) for x in problem["systems"]]
    for name in names:
        system = System(name, problem)
        place = make_model(system, "dos", system.sel_eval, folder)
        dos = DeepDOS(str(place / "compressed.pth"))
        same = Lower(place / "compressed.pth", system, sum(system.sel_eval))
        place = make_model(system, "dos", system.sel, folder)
        plain, fast = (Lower(place / f"{kind}.pth", system, sum(system.sel)) for kind in ("frozen", "compressed"))

        def density(points, model=dos, system=system):
            return model.eval(*system.frames(points), atomic=True)[1].reshape(len(points), -1)[:, -points.shape[1] :]

        calls[f"{name} DeepDOS.eval few"] = (lambda s=system, f=density: f(s.spread)), system.spread[..., 0].size
        calls[f"{name} DeepDOS.eval many"] = (lambda s=system, f=density: f(s.many)), system.many[..., 0].size
        count = sum(map(len, system.compact))
        calls[f"{name} forward_lower"] = (lambda s=system, f=plain: f(s.compact)), count
        calls[f"{name} forward_lower compressed"] = (lambda s=system, f=fast: f(s.compact)), count
        checks[name] = (system, density, same, plain, fast)
        if name == names[0]:
            energy = DeepPot(str(make_model(system, "ener", system.sel_eval, folder) / "compressed.pth"))

            def energies(s=system, model=energy):
                model.eval(*s.frames(s.spread), atomic=True)

            calls[f"{name} DeepPot.eval few"] = energies, system.spread[..., 0].size

    def check() -> dict:
        """Largest differences, as a share of the largest value, between two paths of one model."""
        out = {}
        for name, (system, density, same, plain, fast) in checks.items():
            full, many, lower = same(list(system.spread)), same(list(system.many)), fast(list(system.spread))
            out[name] = {
                "few": np.abs(density(system.spread).reshape(-1) - full).max() / np.abs(full).max(),
                "many": np.abs(density(system.many).reshape(-1) - many).max() / np.abs(full).max(),
                "compressed": np.abs(plain(list(system.spread)) - lower).max() / np.abs(lower).max(),
            }
        return {key: {k: float(v) for k, v in values.items()} for key, values in out.items()}

    about = {"name": f"DeePMD-kit {deepmd.__version__}", "torch": torch.__version__}
    serve(answers, about, calls, torch.set_num_threads, check)


if __name__ == "__main__":
    main()
