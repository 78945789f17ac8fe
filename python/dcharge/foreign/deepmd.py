"""DeePMD-kit models of the pseudo-atom recipe as Deep Charge: the same weights, the same density.

DeePMD-kit: A = 1/N sum_j (R_j - davg)/dstd G((s_j - davg)/dstd), R = s (1, x/r, y/r, z/r), s = w(r)/r, N = sum of sel,
over all rows up to sel, of which the empty ones have R = 0. The fitting net of the type X makes the density of A^T A_<.
"""

from __future__ import annotations

import numpy as np
import torch

from ..config import normalize_model
from ..errors import InputError, log
from ..io import read_structure
from ..models import make_model
from ..models.deep_charge import DeepCharge
from .deepmd_file import Layer, ProbeModel, read


def convert(path, interpolate: bool = False, systems=(), precision: str | None = None) -> tuple[DeepCharge, dict]:
    """Model of a file of `dp convert-backend`, and where it comes from.

    interpolate  the embedding net interpolated in the distance, for the fast kernels; see `deepmd_table`
    systems      structure files whose first frames say how good that is; none: random atoms
    precision    of the dcharge model; none: that of the file
    Raises InputError in one line.
    """
    source = read(path)
    sel = ", ".join(f"{symbol} {n}" for symbol, n in zip(source.type_map, source.slots, strict=True))
    log.info(f"{path}: sel {sel}; where a point has more neighbours, DeePMD-kit leaves out the farthest, dcharge none")
    if precision is not None:
        source.precision = precision
    if not interpolate:
        return exact(source, path), source.source
    from . import deepmd_table as table

    structures = [read_structure(system) for system in systems]
    for system, structure in zip(systems, structures, strict=True):
        unknown = sorted(set(structure.symbols) - set(source.type_map))
        if unknown:
            raise InputError(f"{system}: holds {unknown[0]}; the model knows {', '.join(source.type_map)}")
    where = ", ".join(map(str, systems)) or "random atoms (--system: of your own structures)"
    model, found = table.interpolated(source, structures or [table.made_up(source, np.random.default_rng(0))], path)
    log.info(
        f"interpolated with {found['n_radial']} functions of the distance: the density differs by {found['error']:.1e} "
        f"of its maximum, at {found['points']} points of {where}, at least {table.NEAR:g} Angstrom from nuclei"
    )
    return model, {**source.source, "interpolated": found}


def model_section(source: ProbeModel, path, **changes) -> dict:
    """A normalised `model` section with the converted keys; `changes` replace keys, of `descriptor` one by one."""
    section = {
        "type": "deep_charge",
        "type_map": source.type_map,
        "precision": source.precision,
        "baseline": {"type": "none"},
        "descriptor": {**source.descriptor, "l_max": 1, "gram": "joint"},
        "fitting_net": source.fitting_net,
        "vacuum": "paper",
    }
    section["descriptor"] |= changes.pop("descriptor", {})
    return normalize_model(section | changes, f"{path}: as a dcharge model")


@torch.no_grad()
def exact(source: ProbeModel, path) -> DeepCharge:
    """The same function of atoms and points as in DeePMD-kit: its embedding net at every pair."""
    descriptor = {"soft": 0.0, "set_davg_zero": False, "env_protection": source.protection}
    section = model_section(source, path, descriptor=descriptor, embedding="exact", standardize=False)
    model = make_model(section)
    fill_fitting(model, source)
    for net, layers in zip(model.embedding, source.embedding, strict=True):
        fill_layers(net, layers)
    model.pair_mean.fill_(source.mean)
    model.slots.copy_(torch.tensor(source.slots))
    model.pair_scale.copy_(torch.tensor(source.deviation, dtype=torch.float64))
    model.norm.fill_(1.0 / sum(source.slots))
    return model.eval()


def fill_fitting(model: DeepCharge, source: ProbeModel) -> None:
    """The weights of the fitting net and the constants of the output."""
    fill_layers(model.fitting, source.fitting)
    fill_layers([model.output], [source.output])
    nothing = torch.zeros_like(model.fitting[0].weight[:1])
    vacuum = float(model.output(model.fitting(nothing))) if source.without_vacuum else 0.0
    model.output_mean.fill_(source.constant - vacuum)


def fill_layers(net, layers: list[Layer]) -> None:
    """Put the numbers of layers into torch modules."""
    for module, layer in zip(net, layers, strict=True):
        module.weight.copy_(torch.as_tensor(np.ascontiguousarray(layer.weight)))
        module.bias.copy_(torch.as_tensor(layer.bias))
        if (getattr(module, "dt", None) is None) != (layer.dt is None):
            raise InputError(f"resnet_dt: a layer of {len(layer.bias)} has it in one of the programs only")
        if layer.dt is not None:
            module.dt.copy_(torch.as_tensor(layer.dt))
