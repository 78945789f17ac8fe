"""Gaussian-type orbitals of the atoms summed at points: the neighbour sums of the embedded-atom density (FIREANN).

S[p, k, m] = sum_j c_j[m] A_k(v_pj) exp(alpha[Z_j, m] (r~ - r_s[Z_j, m])^2) f_c(r) over all periodic images with
r < rcut; vec = r_j - r_p, r = |vec|, r~ = sqrt(r^2 + soft^2), v = vec (raw) or vec/r~ (unit), A_k the unique Cartesian
monomials of v (bases.cartesian_monomials), f_c = [(1 + cos(pi r/rcut))/2]^2. (Feng, Zhang, Jiang, "Efficient Sampling
for Machine Learning Electron Density and Its Response in Real Space", eq. 2; alpha = -1/(2 sigma^2), coefficients per
wave and f_c as in the published code of the authors.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bases import cartesian_monomials, n_monomials, safe_norm
from .check import check_geometry, check_integer, check_range, check_tensor
from .geometry import shifted
from .library import compiled_for, loaded
from .neighbors import neighbors
from .second import through_reference

DIRECTIONS = ("raw", "unit")
PAIRS_PER_BLOCK = 1 << 16
SELF_DISTANCE = 1e-3
MOST_DEGREE = 2  # of the compiled kernels; the reference answers beyond


def orbital_sums(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_type: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    coefficients: Tensor,
    center: Tensor,
    exponent: Tensor,
    point_atom: Tensor | None = None,
    *,
    rcut: float,
    l_max: int,
    soft: float,
    direction: str,
) -> Tensor:
    """Orbital sums S; differentiable (twice) with respect to points, atoms, coefficients, center and exponent.

    Parameters
      points [n, 3] float64, Angstrom, anywhere (wrapped inside); point_frame [n] int64
      atoms [n_atoms, 3] float64, Angstrom; atom_type, atom_frame [n_atoms] int64
      cell [n_frames, 3, 3] float64 rows, Angstrom; pbc [n_frames, 3] bool (rows of non-periodic axes are ignored)
      coefficients [n_atoms, n_waves] float32 or float64: c, their dtype is the dtype of the result
      center [n_types, n_waves]: r_s, Angstrom; exponent [n_types, n_waves]: alpha <= 0, 1/Angstrom^2
        (checked on the CPU only)
      point_atom [n] int64 or None: the atom that a point is, -1 for a free point. The image of that atom at the point
        (within 0.001 Angstrom) is left out; its other images, and all atoms at free points, count however close
      rcut in Angstrom; l_max 0..3; soft >= 0 in Angstrom, > 0 where direction is "unit"; direction "raw" or "unit".
        With soft 0 the sums have a cusp at a nucleus, where the derivative of r is taken as zero
    Returns S [n, n_comp, n_waves], n_comp 1, 4, 10, 20; Angstrom^l (raw); zeros where no atom is within rcut.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    geometry = (points, point_frame, atoms, atom_type, atom_frame, cell, pbc)
    check_orbitals(*geometry, coefficients, center, exponent, point_atom, rcut, l_max, soft, direction)
    options = (float(rcut), float(soft), l_max, direction == "unit")
    has_kernel = compiled_for(points.device) and l_max <= MOST_DEGREE
    compute = torch.ops.dcharge.orbital_sums if has_kernel else orbital_sums_reference
    return compute(*geometry, coefficients, center, exponent, point_atom, *options)


def check_orbitals(
    points, point_frame, atoms, atom_type, atom_frame, cell, pbc, coefficients, center, exponent, point_atom, rcut,
    l_max, soft, direction,
) -> None:  # fmt: skip
    """Checks of all arguments of orbital_sums."""
    check_integer("l_max", l_max, 0, 3)
    if not 0 < rcut < float("inf"):
        raise ValueError(f"rcut: a positive length in Angstrom expected, got {rcut}")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: 'raw' or 'unit' expected, got {direction!r}")
    if not 0 <= soft < float("inf"):
        raise ValueError(f"soft: a length >= 0 in Angstrom expected, got {soft}")
    if direction == "unit" and soft == 0:
        raise ValueError("soft: a positive length in Angstrom expected where direction is 'unit' (vec/r has no limit)")
    device = points.device if isinstance(points, Tensor) else None
    check_tensor("center", center, (None, None), (torch.float32, torch.float64), device)
    n_types, n_waves = center.shape
    if n_types < 1 or n_waves < 1:
        raise ValueError(f"center: at least one type and one wave expected, got shape [{n_types}, {n_waves}]")
    check_tensor("exponent", exponent, (n_types, n_waves), center.dtype, device)
    check_geometry(points, point_frame, atoms, atom_type, atom_frame, cell, pbc, n_types)
    check_tensor("coefficients", coefficients, (atoms.shape[0], n_waves), center.dtype, device)
    # looking at values on a GPU waits for it, at every step of a training; models make the exponents negative
    looked_at = exponent.device.type == "cpu" and not torch.compiler.is_compiling()
    if looked_at and not bool((exponent.detach() <= 0).all()):
        raise ValueError("exponent: values <= 0 expected (1/Angstrom^2), else the orbitals grow with the distance")
    if point_atom is not None:
        check_tensor("point_atom", point_atom, (points.shape[0],), torch.int64, device)
        check_range("point_atom", point_atom, atoms.shape[0], "-1: a free point", first=-1)


def cutoff_function(square: Tensor, rcut: float) -> Tensor:
    """f_c = [(1 + cos(pi r/rcut))/2]^2 = cos^4(pi r/(2 rcut)) of squared distances, 0 from rcut on.

    An entire function of r^2: its derivatives at a nucleus are right, too.
    """
    a = 0.5 * math.pi / rcut
    positive = square > 0
    r = torch.where(positive, square, 1.0).sqrt()
    cosine2 = 1 - square * torch.where(positive, torch.sin(a * r) / r, a).square()
    return torch.where(square < rcut * rcut, cosine2.square(), 0.0)


def orbital_sums_reference(
    points, point_frame, atoms, atom_type, atom_frame, cell, pbc, coefficients, center, exponent, point_atom, rcut,
    soft, l_max, unit,
) -> Tensor:  # fmt: skip
    """The specification of orbital_sums in torch; same arguments, checked. Memory grows with the number of pairs."""
    n, dtype, n_waves = points.shape[0], coefficients.dtype, coefficients.shape[1]
    n_comp = n_monomials(l_max)
    # zeros that belong to the graph of all inputs, so that no pairs give zero gradients
    used = (points.sum() + atoms.sum()).to(dtype) + coefficients.sum() + center.sum() + exponent.sum()
    total = torch.zeros(n, n_comp * n_waves, dtype=dtype, device=points.device) + 0 * used
    for frame in range(cell.shape[0]):
        row = torch.nonzero(point_frame == frame)[:, 0]
        member = torch.nonzero(atom_frame == frame)[:, 0]
        if not len(row) or not len(member):
            continue
        (i, j), shift = neighbors(atoms[member].detach(), cell[frame], pbc[frame], rcut, points[row].detach())
        for part in torch.arange(len(i), device=points.device).split(PAIRS_PER_BLOCK):
            p, a = row[i[part]], member[j[part]]
            vector = shifted(atoms[a], shift[part], cell[frame], pbc[frame]) - points[p]
            if point_atom is not None:
                keep = (point_atom[p] != a) | (vector.detach().square().sum(-1) > SELF_DISTANCE**2)
                p, a, vector = p[keep], a[keep], vector[keep]
            angular, r_soft = pair_terms(vector, rcut, soft, l_max, unit)
            distance = r_soft.to(dtype)[:, None] - center[atom_type[a]]
            weight = coefficients[a] * torch.exp(exponent[atom_type[a]] * distance.square())
            total = total.index_add(0, p, (angular.to(dtype)[:, :, None] * weight[:, None, :]).flatten(1))
    return total.reshape(n, n_comp, n_waves)


def pair_terms(vector: Tensor, rcut: float, soft: float, l_max: int, unit: bool) -> tuple[Tensor, Tensor]:
    """A_k f_c [e, n_comp] and r~ [e] of pair vectors [e, 3], Angstrom."""
    square = vector.square().sum(-1)
    r_soft = (square + soft * soft).sqrt() if soft > 0 else safe_norm(vector)
    monomials = cartesian_monomials(vector / r_soft[:, None] if unit else vector, l_max)
    return monomials * cutoff_function(square, rcut)[:, None], r_soft


def _register():
    lib = "dcharge::orbital_sums"

    @torch.library.register_fake(lib)
    def _(
        points, point_frame, atoms, types, frames, cell, pbc, c, center, exponent, point_atom, rcut, soft, l_max, unit
    ):
        return c.new_empty((points.shape[0], n_monomials(l_max), c.shape[1]))

    @torch.library.register_fake(lib + "_backward")
    def _(grad, points, point_frame, atoms, types, frames, cell, pbc, c, center, exponent, *rest):
        *_, positions, parameters = rest
        places = [t.new_empty((t.shape[0] if positions else 0, 3)) for t in (points, atoms)]
        return *places, *[t.new_empty((t.shape[0] if parameters else 0, t.shape[1])) for t in (c, center, exponent)]

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:11])
        ctx.options = inputs[11:]

    def backward(ctx, grad):
        needs = ctx.needs_input_grad
        positions, parameters = needs[0] or needs[2], any(needs[7:10])
        found = torch.ops.dcharge.orbital_sums_backward(grad, *ctx.saved_tensors, *ctx.options, positions, parameters)
        d_points, d_atoms = found[:2] if positions else (None, None)
        return d_points, None, d_atoms, *[None] * 4, *(found[2:] if parameters else [None] * 3), *[None] * 5

    torch.library.register_autograd(lib, backward, setup_context=save)

    def save_backward(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:12])
        ctx.options = inputs[12:]

    def double_backward(ctx, *grads):
        *options, positions, parameters = ctx.options
        floats = [0, 1, 3, 8, 9, 10]  # grad, points, atoms, coefficients, center, exponent
        computed = positions, parameters
        found = through_reference(orbital_sums_reference, ctx.saved_tensors, options, floats, grads, *computed)
        return *found, *[None] * 6

    torch.library.register_autograd(lib + "_backward", double_backward, setup_context=save_backward)


if loaded():
    _register()
