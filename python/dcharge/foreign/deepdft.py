"""Models of DeepDFT's public code (github.com/peterbjorgensen/DeepDFT) as painn or schnet: same weights, same density.

A run folder holds arguments.json (options of its runner.py) and best_model.pth (weights, optimizer state). Only
numbers are read, never code.
"""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from pathlib import Path

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from ..config import normalize_model
from ..errors import InputError, log, nearest
from ..models import make_model
from ..models.deepdft import N_NUMBERS, DeepDFT

ARGUMENTS, WEIGHTS = "arguments.json", "best_model.pth"
EMBEDDING = "atom_model.atom_embeddings.weight"
GAUSSIAN_STEP = 0.1  # Angstrom, not an option of runner.py
# modules of dcharge -> modules of DeepDFT, for layer {t}; a pair of linear layers is Sequential(0: linear, 2: linear)
COMMON = {"readout": "probe_model.readout_function"}
MESSAGES = "atom_model.interactions.{t}.message_sum_module.message_function"
MODULES = {
    "painn": {
        "atom_layers.{t}.sender.filter": "atom_model.interactions.{t}.filter_layer",
        "atom_layers.{t}.sender.mlp": "atom_model.interactions.{t}.scalar_message_mlp",
        "atom_layers.{t}.update.u": "atom_model.scalar_vector_update.{t}.linearU",
        "atom_layers.{t}.update.v": "atom_model.scalar_vector_update.{t}.linearV",
        "atom_layers.{t}.update.mlp": "atom_model.scalar_vector_update.{t}.combined_mlp",
        "probe_layers.{t}.sender.filter": "probe_model.message_layers.{t}.filter_layer",
        "probe_layers.{t}.sender.mlp": "probe_model.message_layers.{t}.scalar_message_mlp",
        "probe_layers.{t}.gate": "probe_model.message_layers.{t}.update_gate_mlp",
        "probe_layers.{t}.update.u": "probe_model.scalar_vector_update.{t}.linearU",
        "probe_layers.{t}.update.v": "probe_model.scalar_vector_update.{t}.linearV",
        "probe_layers.{t}.update.mlp": "probe_model.scalar_vector_update.{t}.combined_mlp",
    },
    "schnet": {
        "atom_layers.{t}.messenger.edge": f"{MESSAGES}.msg_function_edge",
        "atom_layers.{t}.messenger.node": f"{MESSAGES}.msg_function_node",
        "atom_layers.{t}.transition": "atom_model.interactions.{t}.state_transition_function",
        "probe_layers.{t}.messenger.edge": "probe_model.messagesum_layers.{t}.message_function.msg_function_edge",
        "probe_layers.{t}.messenger.node": "probe_model.messagesum_layers.{t}.message_function.msg_function_node",
        "probe_layers.{t}.gate": "probe_model.probe_state_gate_functions.{t}",
        "probe_layers.{t}.transition": "probe_model.probe_state_transition_functions.{t}",
    },
}


def convert(path, precision: str | None = None, type_map=()) -> tuple[DeepDFT, dict]:
    """Model of a run folder, and where it comes from.

    precision  of the dcharge model, float32 (none) or float64; with float64 filters are exact, else tabulated
    type_map   chemical symbols of the species; none: those that the optimizer state says were trained
    Raises InputError in one line.
    """
    folder = Path(path)
    arguments = read_arguments(folder)
    content, weights = read_weights(folder)
    family = "painn" if arguments["use_painn_model"] else "schnet"
    section = {
        "type": family,
        "type_map": species(folder / WEIGHTS, content, type_map),
        "precision": precision or "float32",
        "baseline": {"type": "none"},
        "vacuum": "paper",
        "rcut": arguments["cutoff"],
        "n_features": arguments["node_size"],
        "n_layers": arguments["num_interactions"],
        "soft": 0.0,
        "cutoff_function": "published",
        "filters": "exact" if precision == "float64" else "tabulated",
        "ignore_pbc": arguments["ignore_pbc"],
    }
    if family == "painn":
        first = weights.get("atom_model.interactions.0.filter_layer.weight")
        if first is not None and first.ndim == 2:  # 30 in the public code, not an option of runner.py
            section["n_radial"] = first.shape[1]
    else:
        section["gaussian_step"] = GAUSSIAN_STEP
    model = make_model(normalize_model(section, f"{folder}: as a dcharge model"))
    fill(model, weights, folder / WEIGHTS)
    if arguments["ignore_pbc"]:
        log.info(f"{folder}: trained without periodic images (ignore_pbc): the model ignores them in every structure")
    if arguments["force_pbc"]:
        log.warning(f"{folder}: trained with all axes periodic (force_pbc); give structures that are, or --pbc T T T")
    source = {"program": "DeepDFT", "file": str(folder), "arguments": arguments}
    for name in ("step", "best_val_mae"):
        if isinstance(content.get(name), (int, float)) and math.isfinite(content[name]):
            source[name] = content[name]
    return model.eval(), source


def read_arguments(folder: Path) -> dict:
    """The options of a run that make the model: cutoff, node_size, num_interactions, use_painn_model, ..._pbc."""
    path = folder / ARGUMENTS
    if not folder.is_dir():
        raise InputError(f"{folder}: a run folder of DeepDFT expected, with {ARGUMENTS} and {WEIGHTS}")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a run folder of DeepDFT's runner.py has it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no readable JSON ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(given, dict):
        raise InputError(f"{path}: a mapping of options expected")
    out = {}
    for name, default in {"use_painn_model": False, "ignore_pbc": False, "force_pbc": False}.items():
        out[name] = given.get(name, default)  # options of later versions
        if not isinstance(out[name], bool):
            raise InputError(f"{path}: {name}: true or false expected, {out[name]!r} found")
    for name, kind in {"cutoff": (int, float), "node_size": int, "num_interactions": int}.items():
        value = given.get(name)
        if name not in given:
            raise InputError(f"{path}: {name}: missing; is this a run of DeepDFT's runner.py?")
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
            words = "a positive number" if name == "cutoff" else "a positive integer"
            raise InputError(f"{path}: {name}: {words} expected, {value!r} found")
        out[name] = value
    return out


def read_weights(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Content of best_model.pth, and its model's tensors by name."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: no such file; a run folder of DeepDFT's runner.py has it after its first validation")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: not readable as numbers without code ({type(error).__name__}: {reason})") from error
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(t, Tensor) for t in weights.values()):
        raise InputError(f"{path}: no mapping 'model' of tensors; is this best_model.pth of DeepDFT's runner.py?")
    return content, weights


def species(path: Path, content: dict, type_map) -> list[str]:
    """The model's species: as given, else those whose rows of the embedding were ever trained."""
    trained = trained_species(content)
    for symbol in type_map:
        if symbol not in atomic_numbers or symbol == "X":
            raise InputError(f"--type-map: '{symbol}' is not a chemical symbol{nearest(symbol, chemical_symbols[1:])}")
        if trained is not None and symbol not in trained:
            raise InputError(f"--type-map: {path} was never trained on {symbol}, only on {', '.join(trained)}")
    if not type_map and not trained:
        raise InputError(f"{path}: no optimizer state that tells which species were trained; give --type-map")
    return list(type_map) or trained


def trained_species(content: dict) -> list[str] | None:
    """Species whose embedding Adam has ever moved (second moment not zero); None where the file does not tell."""
    names = list(content["model"])
    try:
        moment = content["optimizer"]["state"][names.index(EMBEDDING)]["exp_avg_sq"]
        moved = moment.reshape(N_NUMBERS, -1).ne(0).any(1)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        return None
    return [chemical_symbols[z] for z in torch.nonzero(moved)[:, 0].tolist() if z > 0]


def counterparts(model: DeepDFT) -> dict[str, str]:
    """Name of every parameter -> its name in DeepDFT."""
    modules = dict(COMMON)
    for ours, theirs in MODULES[model.config["type"]].items():
        modules |= {ours.format(t=t): theirs.format(t=t) for t in range(model.n_layers)}
    names = {"embedding.weight": EMBEDDING}
    for name, _ in model.named_parameters():
        for ours, theirs in modules.items():
            if name.startswith(ours + "."):
                rest = name[len(ours) + 1 :].replace("first.", "0.").replace("second.", "2.")
                names[name] = f"{theirs}.{rest}"
    return names


@torch.no_grad()
def fill(model: DeepDFT, weights: dict[str, Tensor], path) -> None:
    """Put DeepDFT's weights into the model; InputError where they do not fit."""
    names, family = counterparts(model), model.config["type"]
    unknown = sorted(set(weights) - set(names.values()))
    missing = sorted(set(names.values()) - set(weights))
    if unknown or missing:
        what = f"no '{missing[0]}'" if missing else f"'{unknown[0]}' is unknown"
        raise InputError(
            f"{path}: {what}; weights of DeepDFT's {family} with {model.n_layers} layers expected, as {ARGUMENTS} says"
        )
    for name, parameter in model.named_parameters():
        tensor = weights[names[name]]
        if tensor.shape != parameter.shape:
            expected, found = (" x ".join(map(str, t.shape)) for t in (parameter, tensor))
            raise InputError(f"{path}: {names[name]}: {expected} numbers expected from {ARGUMENTS}, {found} found")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {names[name]}: holds nan or inf")
        parameter.copy_(tensor)
