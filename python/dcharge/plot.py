"""One picture of a prediction: parity plot, and slices of the reference, the model and the error. `dcharge plot`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .analysis.differential import SHOWN, gradient_and_laplacian
from .analysis.parity import check_picture, parity, pyplot, save
from .analysis.planes import plane_of
from .dataset import check_frame, system_frames
from .density import Density
from .errors import InputError, log
from .evaluate import compare, line
from .io.replacing import check_folder
from .predict import load
from .request import check_field

PARITY_POINTS = 20_000


def picture(
    reference: Density, predicted: np.ndarray, title: str, axis: int, path, laplacian: bool = False
) -> None:  # fmt: skip
    """Draw parity plot and slices across cell vector `axis` to `path` (.png, .pdf).

    reference: Density; predicted [n1, n2, n3], e/Angstrom^3; laplacian: the Laplacians of both are drawn, by Fourier
    """
    plt, unit = pyplot("plot"), "e/Å³"
    truth, grid, where = reference.total, reference.grid, plane_of(reference, axis)
    x, y = where.x, where.y
    if laplacian:
        both = reference, replace(reference, values=predicted)
        truth, predicted = (gradient_and_laplacian(d, ("laplacian",))["laplacian"] for d in both)
        unit = "e/Å⁵"

    planes = [where.of(truth), where.of(predicted)]
    error = planes[1] - planes[0]
    low, high = min(p.min() for p in planes), max(p.max() for p in planes)
    worst = max(float(np.abs(error).max()), 1e-12)
    if laplacian:  # next to nuclei it has no bound
        high, worst = (max(float(np.percentile(np.abs(p), SHOWN)), 1e-12) for p in (planes[0], error))
        low = -high
    figure, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")

    rng = np.random.default_rng(0)
    some = rng.choice(truth.size, min(PARITY_POINTS, truth.size), replace=False)
    parity(axes[0], truth.ravel()[some], predicted.ravel()[some], unit)

    for ax, plane, label in zip(axes[1:], [*planes, error], ["reference", "model", "model − reference"], strict=True):
        is_error = plane is error
        limits = {"vmin": -worst, "vmax": worst, "cmap": "RdBu_r"} if is_error else {"vmin": low, "vmax": high}
        mesh = ax.pcolormesh(x, y, plane, shading="flat", rasterized=True, **limits)
        figure.colorbar(mesh, ax=ax, label=unit, shrink=0.85)
        ax.set(title=label, xlabel="Å", aspect="equal")
    figure.suptitle(f"{title}; plane {where.position} of {grid.shape[axis]} along {'abc'[axis]}")
    save(plt, figure, path)


def run(
    model, system, *, frame: int = 0, axis: int = 2, output="density.png", pbc=None, field=None, laplacian=False
) -> None:  # fmt: skip
    """Predict one frame of a system and draw it (or its Laplacian) beside the reference (`dcharge plot`)."""
    check_picture(output)
    check_folder(output)
    predictor = load(model)
    check_field(predictor, field)
    frames = system_frames([{"path": system, "pbc": pbc, "field": field}])
    if not frame < len(frames):
        raise InputError(f"{system}: frame {frame} asked for; there are {len(frames)}")
    reference = frames[frame].read()
    check_frame(reference, predictor.model.config["target"], predictor.model.type_map)
    if not isinstance(reference, Density):
        raise InputError(f"{system}: free points have no slices; a density on a grid expected")
    errors, base, values = compare(predictor, reference, keep=True, progress=True)
    text = line(errors.result(), base.result() if base else None)
    picture(reference, values.reshape(reference.grid.shape), f"{frames[frame].name}: {text}", axis, output, laplacian)
    log.info(f"{frames[frame].name}: {text}")
    log.info(f"picture: {output}")
