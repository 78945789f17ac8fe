"""Gradient and Laplacian of a density. Where the Laplacian is negative, density is concentrated (Bader 1990)."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .observation import Field, Observation
from .planes import plane_of
from .spectral import Waves

FLAG = ("gradient", "laplacian")  # one module for both: a model's derivatives are taken once
OPTIONS = {
    "--gradient": {"action": "store_true", "help": "length of the gradient (e/Angstrom^4), a field"},
    "--laplacian": {"action": "store_true", "help": "Laplacian (e/Angstrom^5), a field"},
    "--resolution": {
        "type": float,
        "metavar": "L",
        "help": "of both, by Fourier transform: without waves shorter than L Angstrom, as on a grid of L/2",
    },
}
SHOWN = 98.0  # percentile of |Laplacian| in the plane at the ends of the colour scale: next to nuclei it has no bound


def check_resolution(resolution, derivatives) -> None:
    """InputError where a resolution (Angstrom, or None) is none, or asked of a model's own derivatives."""
    if resolution is None:
        return
    if not 0 < resolution < np.inf:
        raise InputError(f"--resolution {resolution:g}: a length in Angstrom expected")
    if derivatives not in (None, "fft"):
        raise InputError("--resolution: leaves out waves of a grid; give --derivatives fft")


def gradient_and_laplacian(density, wanted=FLAG, derivatives=None, resolution=None) -> dict[str, np.ndarray]:
    """What is `wanted` of "gradient" [3, n1, n2, n3] e/Angstrom^4 and "laplacian" [n1, n2, n3] e/Angstrom^5, float64.

    derivatives  function of the density that yields (flat index, rho, gradient, Hessian), e.g. a model's; default:
                 Fourier derivatives of the grid, which must be periodic or vanish at its ends (InputError)
    resolution   Angstrom: without waves shorter than that; Fourier derivatives alone
    """
    grid = density.grid
    check_resolution(resolution, derivatives)
    if derivatives is None:
        waves, out = Waves(density, resolution), {}
        if "gradient" in wanted:
            out["gradient"] = np.stack([waves.gradient(a) for a in range(3)])
        if "laplacian" in wanted:
            out["laplacian"] = waves.laplacian()
        return out
    out = {name: np.empty((3, grid.n_points) if name == "gradient" else grid.n_points) for name in FLAG}
    for index, _, gradient, hessian in derivatives(density):
        out["gradient"][:, index] = gradient.T
        out["laplacian"][index] = np.trace(hessian, axis1=1, axis2=2)
    return {name: out[name].reshape(*out[name].shape[:-1], *grid.shape) for name in FLAG if name in wanted}


def observe(density, options) -> Observation:
    """The fields; largest values, root mean squares; of a model's own derivatives the integral of the Laplacian, which
    is zero for a whole density on a grid that is fine enough (by Fourier transform it is zero whatever the density)."""
    wanted = [name for name in FLAG if options.get(name)]
    found, out = (
        gradient_and_laplacian(density, wanted, options.get("derivatives"), options.get("resolution")),
        Observation(),
    )
    if "gradient" in found:
        size = np.sqrt((found.pop("gradient") ** 2).sum(0))
        out.figures["largest gradient"] = (float(size.max()), "e/A^4")
        out.figures["rms gradient"] = (float(np.sqrt((size**2).mean())), "e/A^4")
        out.fields["gradient"] = Field("|grad rho|, e/Angstrom^4", size, plane_of(density))
    if "laplacian" in found:
        values = found["laplacian"]
        out.figures["smallest Laplacian"] = (float(values.min()), "e/A^5")
        out.figures["largest Laplacian"] = (float(values.max()), "e/A^5")
        out.figures["rms Laplacian"] = (float(np.sqrt((values**2).mean())), "e/A^5")
        if options.get("derivatives") is not None:
            out.figures["integral of the Laplacian"] = (float(values.sum() * density.grid.dv), "e/A^2")
        field = Field("Laplacian, e/Angstrom^5", values, plane_of(density))
        top = float(np.percentile(np.abs(field.shown), SHOWN))
        field.limits = (-top, top)
        out.fields["laplacian"] = field
    return out
