"""One picture of a prediction: parity plot, and slices of the reference, the model and the error. `dcharge plot`."""

from __future__ import annotations

import numpy as np

from .analysis.planes import plane_of
from .dataset import check_frame, system_frames
from .density import Density
from .errors import InputError, log
from .evaluate import compare, line
from .io.replacing import check_folder, replacing
from .predict import load

PARITY_POINTS = 20_000


def picture(reference: Density, predicted: np.ndarray, title: str, axis: int, path) -> None:
    """Draw parity plot and slices across cell vector `axis` to `path` (.png, .pdf).

    reference: Density; predicted [n1, n2, n3], e/Angstrom^3.
    """
    try:
        import matplotlib
    except ImportError:
        raise InputError("plot: matplotlib is missing; run 'pip install matplotlib'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    truth, grid, where = reference.total, reference.grid, plane_of(reference, axis)
    x, y = where.x, where.y

    planes = [where.of(truth), where.of(predicted)]
    error = planes[1] - planes[0]
    low, high = min(p.min() for p in planes), max(p.max() for p in planes)
    worst = max(float(np.abs(error).max()), 1e-12)
    figure, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")

    rng = np.random.default_rng(0)
    some = rng.choice(truth.size, min(PARITY_POINTS, truth.size), replace=False)
    p, q = truth.ravel()[some], predicted.ravel()[some]
    axes[0].plot(p, q, ".", markersize=1.5, rasterized=True)
    ends = [min(p.min(), q.min()), max(p.max(), q.max())]
    axes[0].plot(ends, ends, "k-", linewidth=0.7)
    axes[0].set(xlabel="reference, e/Å³", ylabel="model, e/Å³", title="parity")

    for ax, plane, label in zip(axes[1:], [*planes, error], ["reference", "model", "model − reference"], strict=True):
        is_error = plane is error
        limits = {"vmin": -worst, "vmax": worst, "cmap": "RdBu_r"} if is_error else {"vmin": low, "vmax": high}
        mesh = ax.pcolormesh(x, y, plane, shading="flat", rasterized=True, **limits)
        figure.colorbar(mesh, ax=ax, label="e/Å³", shrink=0.85)
        ax.set(title=label, xlabel="Å", aspect="equal")
    figure.suptitle(f"{title}; plane {where.position} of {grid.shape[axis]} along {'abc'[axis]}")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format=str(path).rsplit(".", 1)[-1].lower())
    plt.close(figure)


def run(model, system, *, frame: int = 0, axis: int = 2, output="density.png", pbc=None, field=None) -> None:
    """Predict one frame of a system and draw it beside the reference (`dcharge plot`)."""
    if str(output).rsplit(".", 1)[-1].lower() not in ("png", "pdf", "svg"):
        raise InputError(f"{output}: .png, .pdf or .svg expected")
    check_folder(output)
    predictor = load(model)
    frames = system_frames([{"path": system, "pbc": pbc, "field": field}])
    if not frame < len(frames):
        raise InputError(f"{system}: frame {frame} asked for; there are {len(frames)}")
    reference = frames[frame].read()
    check_frame(reference, predictor.model.config["target"], predictor.model.type_map)
    if not isinstance(reference, Density):
        raise InputError(f"{system}: free points have no slices; a density on a grid expected")
    errors, base, values = compare(predictor, reference, keep=True, progress=True)
    text = line(errors.result(), base.result() if base else None)
    picture(reference, values.reshape(reference.grid.shape), f"{frames[frame].name}: {text}", axis, output)
    log.info(f"{frames[frame].name}: {text}")
    log.info(f"picture: {output}")
