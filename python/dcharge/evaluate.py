"""Testing: a frozen model against reference densities, the baseline beside it. `dcharge test`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from . import coarse_verdict
from . import precision as precision_verdict
from .analysis.parity import check_picture, pyplot
from .calibration import Calibration, compare_ensemble, frames_table, refuse
from .calibration import table as calibration_table
from .coarse import check as check_coarse
from .dataset import check_frame, system_frames
from .density import Density, PointDensity
from .derived import Derived, Wanted
from .errors import InputError, log
from .io.replacing import check_folder, replacing
from .metrics import Errors, pool
from .predict import Predictor, load, track_points
from .request import check_field

UNITS = (
    ("nmae_percent", "NMAE", "%"),
    ("nmae_percent_frame_mean", "NMAE (mean of frames)", "%"),
    ("mae", "MAE", "e/A^3"),
    ("rmse", "RMSE", "e/A^3"),
    ("r2", "R2", ""),
    ("max_error", "max error", "e/A^3"),
    ("electron_error_percent", "electron count error", "%"),
)


def compare(
    predictor: Predictor, reference: Density | PointDensity, keep: bool = False, progress: bool = False, tiles=None,
    base_values=None,
):  # fmt: skip
    """Errors of the model and of its baseline alone (None without one), and the prediction if `keep`.

    Every point counts with its voxel volume (grids) or its weight (point data).
    tiles: in place of `predictor.tiles`, called with structure, grid and parts=True
    base_values # [n], filled with the baseline's density on a grid; or None
    """
    errors, base_errors = Errors(), Errors()
    has_base = predictor.model.baseline is not None
    grid = getattr(reference, "grid", None)
    values = np.empty((1, reference.n_points), dtype=np.float32) if keep else None
    if grid is None:
        weight = 1.0 if reference.weight is None else reference.weight
        rho, base = predictor.at(reference.structure, reference.positions, parts=True)
        truth = reference.values[0]
        errors.add(rho[0], truth, weight, integrable=False)
        base_errors.add(base[0], truth, weight, integrable=False)
        values = rho if keep else None
    else:
        tiles = (tiles or predictor.tiles)(reference.structure, grid, parts=True)
        for index, rho, base in track_points(tiles, grid.n_points) if progress else tiles:
            truth = reference.values_at(index)[0]
            # a response has no electrons to count: their error would be relative to zero
            errors.add(rho[0], truth, grid.dv, integrable=reference.kind == "density")
            base_errors.add(base[0], truth, grid.dv)
            if keep:
                values[:, index] = rho
            if base_values is not None:
                base_values[index] = base[0]
    return errors, base_errors if has_base else None, values


def test(
    models, systems, *, n: int = 0, prefix=None, json_file=None, pbc=None, field=None, device="auto", coarse=None,
    store=False, precision=None, derive: Wanted | None = None,
) -> dict:  # fmt: skip
    """Test a frozen model on systems; logs a table, returns (and with `json_file` writes) the JSON report.

    models   paths; several are tested as an ensemble: the mean of their densities, and whether its standard deviation
             tells the error; systems: list of paths; n: frames per system (0 = all)
    prefix   writes <prefix>.<frame>.npz with reference and prediction, and <prefix>.summary.txt
    coarse   list of factors: what they cost and save too
    precision  "bf16": what that costs and saves too
    derive   gradient, Laplacian, dipole moment and parity plots beside those of the reference
    store    keep in the model which factor `--coarse auto` takes, and whether bf16 may be used
    """
    if len(models) > 1:
        refuse(coarse, precision, store)
    derive = derive or Wanted()
    if derive.plot is not None:
        check_picture(derive.plot)
        pyplot("test")  # before the long work: told where it is missing
    for path in (prefix, json_file, derive.plot):
        if path is not None:
            check_folder(path)
    if store and not coarse and not precision:
        raise InputError("--store: tell what to store, --coarse 1,2,3 or --precision bf16")
    predictor = load(list(models), device)
    check_field(predictor, field)
    # before the long work: refused where the model has no such path
    if precision:
        rounded = Predictor(load(models[0], device).model, device=predictor.device, precision=precision)
    config = predictor.model.config
    for factor in coarse or ():
        check_coarse(predictor.model, factor)
    frames, model_errors, base_errors, written, read = [], [], [], set(), []
    derived = Derived(derive, predictor) if derive else None
    keep = prefix is not None or derived is not None
    each, calibration = [[] for _ in models], Calibration() if len(models) > 1 else None
    entries = [{"path": str(s), "pbc": pbc, "field": field} for s in systems]
    log.info("# ---------------output of dcharge test---------------")
    for system in entries:
        chosen = system_frames([system])
        for frame in chosen[:n] if n else chosen:
            reference = frame.read()
            if coarse:
                coarse_verdict.on_grid(reference)
            read.append((system["path"], frame))
            check_frame(reference, config["target"], config["type_map"])
            if derived is not None:
                derived.check(reference, frame.name)
            started = time.perf_counter()
            base_values = None
            if calibration is None:
                if derived is not None and predictor.model.baseline is not None:
                    base_values = np.empty(reference.n_points, dtype=np.float32)
                errors, base, values = compare(predictor, reference, keep, progress=True, base_values=base_values)
            else:
                errors, base, own, deviation, values = compare_ensemble(predictor, reference, keep, True)
                calibration += deviation
                for model, of in zip(each, own, strict=True):
                    model.append(of)
            seconds = time.perf_counter() - started
            if prefix is not None:
                write_detail(detail_path(prefix, frame.name, written), reference, values)
            model_errors.append(errors)
            base_errors += [base] if base else []
            result = errors.result()
            frames.append(
                {
                    "system": system["path"],
                    "name": frame.name,
                    "metrics": result,
                    "baseline": base.result() if base else None,
                    "seconds": seconds,
                }
            )
            if derived is not None:
                frames[-1]["derived"] = derived.add(reference, frame.name, values[0], base_values)
            text = line(result, base.result() if base else None)
            if calibration is not None:
                frames[-1]["deviation"] = deviation.result()
                text += f", deviation {number(frames[-1]['deviation']['rel_devi_percent'])} %"
            log.info(f"{frame.name}: " + text)
    if not frames:
        raise InputError("test: no frame found in the systems given")
    if len({e.integrable for e in model_errors}) > 1:
        log.warning("grids and free points in one test: in the pool a grid point counts by its volume, a free one as 1")
    report = {
        "format": "dcharge-test",
        "version": 1,
        "model": [str(m) for m in models],
        "target": config["target"],
        "pooled": pool(model_errors),
        "baseline": pool(base_errors) if base_errors else None,
        "frames": frames,
    }
    table = summary(report)
    if calibration is not None:
        alone = [pool(of)["nmae_percent"] for of in each]
        report["ensemble"] = {
            "nmae_percent": alone,
            "deviation": calibration.result(),
            "bins": calibration.bins(),
        }
        table += calibration_table(report["ensemble"]) + frames_table(frames)
    if derived is not None:
        report["derived"] = derived.report()
        table += derived.table()
    for row in table:
        log.info(row)
    if coarse:
        report["coarse"] = coarse_verdict.study(predictor, read, coarse, compare, report)
        for row in coarse_verdict.table(report["coarse"]):
            log.info(row)
        if store:
            coarse_verdict.store(models[0], report["coarse"], systems)
    if precision:
        report[precision] = precision_verdict.study(rounded, read, compare, report)
        for row in precision_verdict.table(report[precision]):
            log.info(row)
        if store:
            precision_verdict.store(models[0], report[precision], systems)
    if prefix is not None:
        write_text(f"{prefix}.summary.txt", "\n".join(table) + "\n")
    if json_file is not None:
        write_text(json_file, json.dumps(report, indent=2) + "\n")
    if derive.plot is not None:
        derived.draw()  # last: a picture that fails leaves the numbers
    return report


def write_text(path, text: str) -> None:
    """Write a small text file under a temporary name, then rename."""
    with replacing(path) as temporary:
        Path(temporary).write_text(text)


def detail_path(prefix, name: str, written: set[str]) -> str:
    """<prefix>.<frame>.npz; frames of one name in several systems are numbered."""
    stem = f"{prefix}.{name.replace('/', '_').replace('#', '_')}"
    n, path = 1, f"{stem}.npz"
    while path in written:
        n, path = n + 1, f"{stem}_{n + 1}.npz"
    written.add(path)
    return path


def write_detail(path, reference, values) -> None:
    """Reference and predicted density, and the grid's cell or the points, as .npz.

    values [1, n], or [2, n] of an ensemble: its standard deviation is written too
    """
    where = {"points": reference.positions} if isinstance(reference, PointDensity) else {"cell": reference.grid.cell}
    found = {k: v.reshape(reference.values[:1].shape) for k, v in zip(("predicted", "std"), values, strict=False)}
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, reference=reference.values[:1], **found, **where)


def number(x) -> str:
    """A metric for people: six digits, `-` where undefined."""
    return "-" if x is None else f"{x:.6g}"


def line(result: dict, base: dict | None) -> str:
    """One frame in one line."""
    text = f"NMAE {number(result['nmae_percent'])} %, max error {number(result['max_error'])} e/A^3"
    return text + (f" (baseline alone {number(base['nmae_percent'])} %)" if base else "")


def summary(report: dict) -> list[str]:
    """The pooled table, model beside baseline."""
    base = report["baseline"] or {}
    rows = [f"# number of test frames : {len(report['frames'])}, points : {report['pooled']['n_points']}"]
    rows.append(f"# {'':24s} {'model':>14s} {'baseline':>14s}")
    for key, label, unit in UNITS:
        rows.append(f"  {label:24s} {number(report['pooled'][key]):>14s} {number(base.get(key)):>14s} {unit}")
    return rows
