"""Regions of interaction seen by the density alone: IRI and DORI. Both are small or large where atoms touch.

IRI = |grad rho| / rho^1.1 (Lu and Chen, Chemistry-Methods 1, 231 (2021)), in atomic units as in the literature
(bohr^-0.7 e^-0.1): the isosurface is 1.0, low values are bonds and contacts.
DORI = theta/(1 + theta), theta = |grad (grad rho/rho)^2|^2 / |grad rho/rho|^6 (de Silva and Corminboeuf, J. Chem.
Theory Comput. 10, 3745 (2014)), without unit, 0 to 1: the isosurface is 0.9 or 0.95, high values are bonds and
contacts.

With k = grad rho/rho and the Hessian H: grad (k^2) = 2 (H k/rho - k^2 k).
"""

from __future__ import annotations

import numpy as np
from ase.units import Bohr as BOHR

from ..errors import InputError
from .observation import Field, Observation
from .planes import plane_of
from .spectral import derivatives as spectral_derivatives

POWER = 1.1
VACUUM = 5e-5  # e/bohr^3: below, both are noise over noise and take the value of empty space
EMPTY = {"iri": 5.0, "dori": 0.0}
SURFACE = {"iri": 1.0, "dori": 0.95}
UNIT = {"iri": "atomic units", "dori": "no unit"}
WORDS = {"iri": "IRI = |grad rho|/rho^1.1", "dori": "DORI"}


def iri(rho, gradient) -> np.ndarray:
    """IRI [n] in atomic units from rho [n] e/Angstrom^3 and gradient [n, 3] e/Angstrom^4; EMPTY in vacuum."""
    rho = np.asarray(rho, dtype=np.float64) * BOHR**3
    size = np.linalg.norm(gradient, axis=-1) * BOHR**4
    full = rho > VACUUM
    return np.where(full, size / np.where(full, rho, 1.0) ** POWER, EMPTY["iri"])


def dori(rho, gradient, hessian) -> np.ndarray:
    """DORI [n] from rho [n], gradient [n, 3] and Hessian [n, 3, 3] in any one unit of length (rho in e/Angstrom^3, for
    the vacuum); EMPTY in vacuum, 1 at a point where the gradient vanishes (the limit at a critical point)."""
    rho = np.asarray(rho, dtype=np.float64)
    full = rho * BOHR**3 > VACUUM
    rho = np.where(full, rho, 1.0)
    k = np.asarray(gradient) / rho[:, None]
    square = (k * k).sum(-1)
    slope = 2 * (np.einsum("nab,nb->na", hessian, k) / rho[:, None] - square[:, None] * k)
    above, below = (slope * slope).sum(-1), square**3
    total = above + below
    return np.where(full, np.where(total > 0, above / np.where(total > 0, total, 1.0), 1.0), EMPTY["dori"])


def fields(density, wanted, derivatives=None) -> dict[str, np.ndarray]:
    """The fields named in `wanted` ("iri", "dori"), each [n1, n2, n3], of a density on a grid.

    derivatives  function of the density that yields (flat index, rho, gradient, Hessian); default: Fourier
    InputError for a response, which is no density.
    """
    if density.kind != "density":
        raise InputError(f"{density.name}: IRI and DORI are fields of a density, this is a {density.kind}")
    grid = density.grid
    out = {name: np.empty(grid.n_points) for name in wanted}
    for index, rho, gradient, hessian in (derivatives or spectral_derivatives)(density):
        if "iri" in out:
            out["iri"][index] = iri(rho, gradient)
        if "dori" in out:
            out["dori"][index] = dori(rho, gradient, hessian)
    return {name: values.reshape(grid.shape) for name, values in out.items()}


FLAG = ("iri", "dori")  # one module for both: derivatives are taken once
OPTIONS = {
    "--iri": {
        "action": "store_true",
        "help": "interaction region indicator |grad rho|/rho^1.1 (atomic units), a field",
    },
    "--dori": {"action": "store_true", "help": "density overlap regions indicator, a field from 0 to 1"},
}


def observe(density, options) -> Observation:
    """The fields, and the volume that their usual isosurfaces enclose, beside that of all that is not vacuum."""
    wanted = [name for name in FLAG if options.get(name)]
    each = fields(density, wanted, options.get("derivatives"))
    volume = density.grid.dv
    out = Observation()
    full = np.asarray(density.total) * BOHR**3 > VACUUM
    out.figures["volume with density"] = (float(np.count_nonzero(full) * volume), "A^3")
    for name, values in each.items():
        inside = full & (values < SURFACE[name] if name == "iri" else values > SURFACE[name])
        sign = "<" if name == "iri" else ">"
        label = f"{name.upper()} {sign} {SURFACE[name]:g}"
        out.figures[f"volume with {label}"] = (float(np.count_nonzero(inside) * volume), "A^3")
        found = Field(f"{WORDS[name]}, {UNIT[name]}", values, plane_of(density))
        # beyond 2, IRI tells nothing
        found.limits = (0.0, 1.0 if name == "dori" else min(2.0, float(found.shown.max())))
        out.fields[name] = found
    return out
