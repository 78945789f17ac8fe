"""DeePMD-kit models of the pseudo-atom recipe (PRB 108, 235159): se_e2_a and a fitting net for X, a grid point.

The file is what `dp convert-backend` writes: numbers and names, no code. All that enters the output of an atom of
type X is taken over; what dcharge does not have is an error, never left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, nearest
from ..nn import ACTIVATIONS

PROBE = "X"
SAME_ACTIVATION = {"gelu_tf": "gelu", "none": "linear"}
# the versions ("@version") of the parts of a file that are read here; DeePMD-kit 3.2 writes the last of each
VERSIONS = {
    "Model": (1, 2),
    "Descriptor": (1, 2),
    "Fitting": (1, 2, 3, 4),
    "NetworkCollection": (1,),
    "EmbeddingNetwork": (1, 2),
    "FittingNetwork": (1,),
    "Layer": (1, 2),
}
HDF5, TEXT, CODE = (".dp", ".hlo"), (".yaml", ".yml", ".json"), (".pth", ".pt", ".pb", ".pt2", ".savedmodel", ".pd")


@dataclass
class Layer:
    """y = act(x W^T + b) dt: weight [n_out, n_in], bias [n_out], dt [n_out] or None."""

    weight: np.ndarray
    bias: np.ndarray
    dt: np.ndarray | None


@dataclass
class ProbeModel:
    """All that makes the output of an atom of type X, without the other types.

    descriptor, fitting_net: keys of the dcharge sections of these names
    slots [n_types]   sel: rows of every species, also the divisor of the sum over neighbours
    mean, deviation   davg of s and dstd of (s, s x/r), Angstrom^-1
    protection        env_protection: 1/r is 1/(r + protection), Angstrom
    embedding, fitting, output   layers of the embedding net of every species, of the fitting net and the last layer
    constant, without_vacuum     added to the output; whether the output for D = 0 is subtracted
    """

    type_map: list[str]
    precision: str
    descriptor: dict
    fitting_net: dict
    slots: list[int]
    mean: float
    deviation: tuple[float, float]
    protection: float
    embedding: list[list[Layer]]
    fitting: list[Layer]
    output: Layer
    constant: float
    without_vacuum: bool
    source: dict


class Entry:
    """A value in the file that knows its path, for errors that say where."""

    def __init__(self, value, path: str):
        self.value, self.path = value, path

    def __getitem__(self, key) -> Entry:
        path = f"{self.path}{': ' if ':' not in self.path else '/'}{key}"
        try:
            return Entry(self.value[key], path)
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{path}: missing; is this a model written by 'dp convert-backend'?") from None

    def get(self, key, default=None) -> Entry:
        """The entry `key`, or `default` where there is none."""
        return self[key] if key in self.value else Entry(default, f"{self.path}/{key}")

    def wanted(self, *values, why: str = "") -> Entry:
        """This entry, which must have one of these values."""
        if self.value not in values:
            words = " or ".join(repr(v) for v in values)
            raise InputError(f"{self.path}: {words} expected, {self.value!r} found{'; ' + why if why else ''}")
        return self

    def known(self, part: str) -> Entry:
        """This entry, a `part` of the file in a version that is read here. Without a word it is the first."""
        self.get("@version", 1).wanted(*VERSIONS[part], why=f"a {part} of another version is not known here")
        return self

    def array(self, *shape) -> np.ndarray:
        """The numbers, float64 or as they are, with this shape (None: any length)."""
        value = np.asarray(self.value)
        fits = value.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True))
        if value.dtype.kind not in "fiu" or not fits or not np.isfinite(value).all():
            expected = " x ".join("n" if n is None else str(n) for n in shape)
            raise InputError(f"{self.path}: {expected} finite numbers expected")
        return value


def read_tree(path) -> Entry:
    """The content of a file of `dp convert-backend`, arrays as numpy arrays. Raises InputError in one line."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in CODE:
        raise InputError(f"{path}: numbers without code expected; first run: dp convert-backend {path} {path.stem}.dp")
    if suffix not in (*HDF5, *TEXT):
        raise InputError(f"{path}: a model of 'dp convert-backend' expected, named *.dp, *.yaml or *.json")
    if not path.is_file():
        others = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(path.name, others)}")
    try:
        tree = _hdf5(path) if suffix in HDF5 else _text(path)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {reason})") from error
    if not isinstance(tree, dict) or "model" not in tree:
        raise InputError(f"{path}: no entry 'model'; is this a model written by 'dp convert-backend'?")
    return Entry(tree, str(path))


def _hdf5(path: Path) -> dict:
    import h5py

    with h5py.File(path, "r") as f:

        def arrays(x, variable=False):
            if isinstance(x, dict):
                return {k: arrays(v, variable or k == "@variables") for k, v in x.items()}
            if isinstance(x, list):
                return [arrays(v, variable) for v in x]
            return f[x][()] if variable and x is not None else x

        return arrays(json.loads(f.attrs["json"]))


def _text(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        tree = json.loads(text)
    else:
        import yaml

        try:
            tree = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise ValueError(error) from error

    def arrays(x):
        if isinstance(x, dict):
            if x.get("@class") == "np.ndarray":
                return np.asarray(x["value"], dtype=np.dtype(x["dtype"]))
            return {k: arrays(v) for k, v in x.items()}
        return [arrays(v) for v in x] if isinstance(x, list) else x

    return arrays(tree)


def read(path) -> ProbeModel:
    """The model of the grid points in a file of `dp convert-backend`. Raises InputError in one line."""
    tree = read_tree(path)
    model = tree["model"]
    model["type"].wanted("standard")
    model.known("Model")
    type_map = list(model["type_map"].value or [])
    if type_map.count(PROBE) != 1:
        names = " ".join(map(str, type_map))
        raise InputError(f"{model.path}/type_map: one pseudo-atom '{PROBE}' expected, the types are: {names}")
    x = type_map.index(PROBE)
    species = [t for t in range(len(type_map)) if t != x]
    if x in (model.get("atom_exclude_types").value or []):
        raise InputError(f"{model.path}/atom_exclude_types: holds {x}, the grid point '{PROBE}' itself")
    descriptor, fitting = model["descriptor"], model["fitting"]
    # exclusions and statistics that differ from pair to pair have no counterpart
    for pairs in (model.get("pair_exclude_types"), descriptor.get("exclude_types")):
        if pairs.value:
            raise InputError(f"{pairs.path}: excluded pairs {pairs.value} are not supported")
    keys = _descriptor(descriptor)
    slots, mean, deviation = _statistics(descriptor, x, len(type_map))
    one_side = bool(descriptor["type_one_side"].value)
    nets = descriptor["embeddings"].known("NetworkCollection")["networks"]
    embedding = [
        _layers(nets[t if one_side else x + len(type_map) * t], "EmbeddingNetwork", keys, [1, *keys["neuron"]])[0]
        for t in species
    ]
    fit, layers, last, constant = _fitting(fitting, x, keys["neuron"][-1] * keys["axis_neuron"])
    bias = model["@variables"]["out_bias"].array(None, len(type_map), None)
    precisions = {str(p["precision"].value) for p in (descriptor, fitting)}
    atom_ener = fitting.get("atom_ener").value or []  # may be shorter than the list of types
    return ProbeModel(
        type_map=[type_map[t] for t in species],
        precision="float32" if precisions == {"float32"} else "float64",
        descriptor=keys,
        fitting_net=fit,
        slots=[slots[t] for t in species],
        mean=mean,
        deviation=deviation,
        protection=float(descriptor.get("env_protection", 0.0).value),
        embedding=embedding,
        fitting=layers,
        output=last,
        constant=constant + float(bias[0, x, 0]),
        without_vacuum=any(e is not None for e in atom_ener) and (x >= len(atom_ener) or atom_ener[x] is not None),
        source={
            "program": "DeePMD-kit",
            "file": Path(path).name,
            "version": str(tree.value.get("version", "")),
            "fitting": str(fitting["type"].value),
            "sel": [slots[t] for t in species],
        },
    )


def _descriptor(d: Entry) -> dict:
    """Keys of dcharge's descriptor section."""
    d["type"].wanted("se_e2_a", "se_a")
    if d.get("compress").value is not None:
        raise InputError(f"{d.path}/compress: a compressed model; convert it as it was before 'dp compress'")
    d.known("Descriptor")
    d.get("spin").wanted(None)
    return {
        "type": "se_e2_a",
        "rcut": float(d["rcut"].value),
        "rcut_smth": float(d["rcut_smth"].value),
        "neuron": [int(n) for n in d["neuron"].value],
        "axis_neuron": int(d["axis_neuron"].value),
        "resnet_dt": bool(d["resnet_dt"].value),
        "activation_function": _activation(d["activation_function"]),
    }


def _activation(entry: Entry) -> str:
    name = SAME_ACTIVATION.get(str(entry.value).lower(), str(entry.value).lower())
    if name not in ACTIVATIONS:
        raise InputError(f"{entry.path}: one of {', '.join(ACTIVATIONS)} expected, {entry.value!r} found")
    return name


def _statistics(d: Entry, x: int, n_types: int):
    """sel, davg of s, dstd of s and of s x/r, of the centre X."""
    sel = [int(n) for n in d["sel"].array(n_types)]
    if sel[x] != 0:
        raise InputError(f"{d.path}/sel: 0 expected for '{PROBE}' (grid points are no neighbours), {sel[x]} found")
    if sum(sel) == 0:
        raise InputError(f"{d.path}/sel: all numbers are zero, so that no atom is seen")
    mean = d["@variables"]["davg"].array(n_types, sum(sel), 4)[x].astype(np.float64)
    deviation = d["@variables"]["dstd"].array(n_types, sum(sel), 4)[x].astype(np.float64)
    if (mean != mean[0]).any() or (deviation != deviation[0]).any() or mean[0, 1:].any():
        raise InputError(f"{d.path}/@variables: davg, dstd the same for all neighbours and davg 0 for x y z expected")
    if len(set(deviation[0, 1:])) != 1 or not (deviation[0] > 0).all():
        raise InputError(f"{d.path}/@variables/dstd: positive numbers expected, the same for x, y and z")
    return sel, float(mean[0, 0]), (float(deviation[0, 0]), float(deviation[0, 1]))


def _fitting(f: Entry, x: int, n_in: int):
    """Keys of dcharge's fitting_net section, hidden layers, last layer, and what is added to the output."""
    f["type"].wanted("ener", "dos", why="the output of a grid point must be one number")
    f.known("Fitting")
    for name in ("numb_fparam", "numb_aparam", "dim_case_embd"):
        f.get(name, 0).wanted(0, why="the density depends on atoms only")
    f.get("dim_out", 1).wanted(1, why="a density has numb_dos 1")
    if x in (f.get("exclude_types").value or []):
        raise InputError(f"{f.path}/exclude_types: holds {x}, the grid point '{PROBE}' itself")
    keys = {
        "neuron": [int(n) for n in f["neuron"].value],
        "resnet_dt": bool(f["resnet_dt"].value),
        "activation_function": _activation(f["activation_function"]),
    }
    net = f["nets"].known("NetworkCollection")["networks"][0 if f["mixed_types"].value else x]
    layers, rest = _layers(net, "FittingNetwork", keys, [n_in, *keys["neuron"]])
    if len(rest) != 1:
        raise InputError(f"{net.path}/layers: one layer after the hidden ones expected, {len(rest)} found")
    last = _layer(rest[0], keys["neuron"][-1], 1)
    bias = f["@variables"]["bias_atom_e"].array(None, 1)
    return keys, layers, last, float(bias[x, 0])


def _layers(net: Entry, part: str, keys: dict, widths: list[int]) -> tuple[list[Layer], list[Entry]]:
    """The hidden layers of these widths (the first: of the input), and the entries that follow."""
    if net.value is None:
        raise InputError(f"{net.path}: the network is missing")
    net.known(part)
    entries = [net["layers"][i] for i in range(len(net["layers"].value))]
    n = len(widths) - 1
    if len(entries) < n:
        raise InputError(f"{net.path}/layers: {n} layers expected, {len(entries)} found")
    layers = []
    for entry, n_in, n_out in zip(entries, widths[:-1], widths[1:], strict=False):
        same = SAME_ACTIVATION.get(str(entry["activation_function"].value), entry["activation_function"].value)
        if same != keys["activation_function"]:
            entry["activation_function"].wanted(keys["activation_function"])
        if n_out in (n_in, 2 * n_in):
            entry["resnet"].wanted(True)
        layers.append(_layer(entry, n_in, n_out))
    return layers, entries[n:]


def _layer(entry: Entry, n_in: int, n_out: int) -> Layer:
    numbers = entry.known("Layer")["@variables"]
    bias, dt = numbers["b"], numbers["idt"]
    return Layer(
        numbers["w"].array(n_in, n_out).T,
        np.zeros(n_out) if bias.value is None else bias.array(n_out),
        None if dt.value is None else dt.array(n_out),
    )
