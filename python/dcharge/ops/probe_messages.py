"""Messages from atoms to probes, all layers at once: the neighbour sums of DeepDFT's equivariant probe network (PaiNN).

For every pair with r < rcut, all periodic images, d = r_probe - r_atom, r = |d|, u = d/r:

    out[p, t, 0] += w_s(r) P_j,   out[p, t, 1..3] += w_vv(r) R_j + (w_vs(r) Q_j) (x) u,   states = (P, Q, R_x, R_y, R_z)

of layer t, products per feature. (Jorgensen, Bhowmik, "Equivariant graph neural networks for fast electron density
estimation of molecules, liquids, and solids", eq. 7-8; what depends on the sender alone is folded into its states.)
Messages do not depend on the probe's own state, so one pass over the neighbours serves all layers.

The filters w_q, q = s, vv, vs, are tabulated on uniform knots k h, h = rcut/(n_knots - 1), and interpolated by the
cubic through the four nearest knots (Lagrange; one-sided in the first and last interval). Its error is at most
3/128 h^4 max|w''''| (h^4/24 in these two intervals). For w = sin(k r)/r, |w''''| <= k^5/5 and |w| <= k: with
rcut 4 Angstrom, k = 30 pi/rcut and 1024 knots 3.4e-7 of the largest value (6e-7). Values and slopes on half as many
knots (Hermite, h^4/384) read as much memory per pair and are 1.8 times less accurate; slopes from differences
(Catmull-Rom) leave O(h^3), 2.5e-6. The interpolant is continuous, its slope to O(h^3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bases import safe_norm
from .check import check_geometry, check_tensor
from .geometry import shifted
from .library import compiled_for, loaded
from .neighbors import neighbors
from .second import through_reference

PAIRS_PER_BLOCK = 1 << 12
ON_NUCLEUS = 1e-6
FEWEST_KNOTS = 4


def probe_messages(
    points: Tensor,
    point_frame: Tensor,
    atoms: Tensor,
    atom_frame: Tensor,
    cell: Tensor,
    pbc: Tensor,
    states: Tensor,
    table: Tensor,
    *,
    rcut: float,
) -> Tensor:
    """Sums of messages; differentiable (twice) with respect to points, atoms, states and table.

    Parameters
      points [n, 3] float64, Angstrom, anywhere (wrapped inside); point_frame [n] int64
      atoms [n_atoms, 3] float64, Angstrom; atom_frame [n_atoms] int64
      cell [n_frames, 3, 3] float64 rows, Angstrom; pbc [n_frames, 3] bool (rows of non-periodic axes are ignored)
      states [n_atoms, n_layers, 5, n_features] float32 or float64: P, Q, R_x, R_y, R_z of every layer; their dtype is
        the dtype of the result
      table [n_layers, 3, n_knots, n_features], dtype of states: w_s, w_vv, w_vs on n_knots >= 4 uniform knots from 0 to
        rcut. A sum is continuous at the cutoff where the last knot is zero
      rcut in Angstrom
    Returns [n, n_layers, 4, n_features]: the scalar message, then the x, y, z components of the vector message; zeros
    where no atom is within rcut. Within 1e-6 Angstrom of a nucleus r and u and their derivatives are taken as zero.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    tensors = (points, point_frame, atoms, atom_frame, cell, pbc, states, table)
    check_probe_messages(*tensors, rcut)
    compute = torch.ops.dcharge.probe_messages if compiled_for(points.device) else probe_messages_reference
    return compute(*tensors, float(rcut))


def check_probe_messages(points, point_frame, atoms, atom_frame, cell, pbc, states, table, rcut) -> None:
    """Checks of all arguments of probe_messages."""
    if not 0 < rcut < float("inf"):
        raise ValueError(f"rcut: a positive length in Angstrom expected, got {rcut}")
    device = points.device if isinstance(points, Tensor) else None
    check_geometry(points, point_frame, atoms, None, atom_frame, cell, pbc)
    check_tensor("states", states, (atoms.shape[0], None, 5, None), (torch.float32, torch.float64), device)
    n_layers, n_features = states.shape[1], states.shape[3]
    if n_layers < 1 or n_features < 1:
        raise ValueError(f"states: at least one layer and one feature expected, got shape {list(states.shape)}")
    check_tensor("table", table, (n_layers, 3, None, n_features), states.dtype, device)
    if table.shape[2] < FEWEST_KNOTS:
        raise ValueError(f"table: at least {FEWEST_KNOTS} knots on axis 2 expected, got {table.shape[2]}")


def interpolation(r: Tensor, rcut: float, n_knots: int) -> tuple[Tensor, Tensor]:
    """First of the four knots around distances r [e] (int64), and their weights [e, 4], differentiable in r."""
    x = r * ((n_knots - 1) / rcut)
    first = (x.detach().floor() - 1).clamp(0, n_knots - 4)
    s = x - first
    a, b, c = s - 1, s - 2, s - 3
    weights = torch.stack([a * b * c * (-1 / 6), s * b * c * 0.5, s * a * c * -0.5, s * a * b * (1 / 6)], 1)
    return first.to(torch.int64), weights


def probe_messages_reference(points, point_frame, atoms, atom_frame, cell, pbc, states, table, rcut) -> Tensor:
    """The specification of probe_messages in torch; same arguments, checked. Memory grows with the number of pairs."""
    n, dtype = points.shape[0], states.dtype
    _, n_layers, _, n_features = states.shape
    # zeros that belong to the graph of all inputs, so that no pairs give zero gradients
    used = (points.sum() + atoms.sum()).to(dtype) + states.sum() + table.sum()
    total = torch.zeros(n, n_layers, 4, n_features, dtype=dtype, device=points.device) + 0 * used
    for frame in range(cell.shape[0]):
        row = torch.nonzero(point_frame == frame)[:, 0]
        member = torch.nonzero(atom_frame == frame)[:, 0]
        if not len(row) or not len(member):
            continue
        (i, j), shift = neighbors(atoms[member].detach(), cell[frame], pbc[frame], rcut, points[row].detach())
        for part in torch.arange(len(i), device=points.device).split(PAIRS_PER_BLOCK):
            p, a = row[i[part]], member[j[part]]
            d = points[p] - shifted(atoms[a], shift[part], cell[frame], pbc[frame])
            total = total.index_add(0, p, messages(d, states[a], table, rcut))
    return total


def messages(d: Tensor, states: Tensor, table: Tensor, rcut: float) -> Tensor:
    """Messages [e, n_layers, 4, n_features] along vectors d [e, 3], Angstrom, from states of the senders."""
    dtype = states.dtype
    r = safe_norm(d)
    apart = r > ON_NUCLEUS
    u = torch.where(apart[:, None], d / torch.where(apart, r, 1.0)[:, None], 0.0).to(dtype)
    r = torch.where(apart, r, 0.0)
    first, weights = interpolation(r, rcut, table.shape[2])
    knots = table.permute(2, 0, 1, 3)  # [n_knots, n_layers, 3, n_features]
    w = sum(weights[:, i, None, None, None].to(dtype) * knots[first + i] for i in range(4))
    w_s, w_vv, w_vs = (w[:, :, q, None] for q in range(3))
    P, Q, R = states[:, :, 0:1], states[:, :, 1:2], states[:, :, 2:]
    return torch.cat([w_s * P, w_vv * R + w_vs * Q * u[:, None, :, None]], 2)


def _register():
    lib = "dcharge::probe_messages"

    @torch.library.register_fake(lib)
    def _(points, point_frame, atoms, atom_frame, cell, pbc, states, table, rcut):
        return states.new_empty((points.shape[0], states.shape[1], 4, states.shape[3]))

    @torch.library.register_fake(lib + "_backward")
    def _(grad, points, point_frame, atoms, atom_frame, cell, pbc, states, table, rcut, positions, parameters):
        places = [t.new_empty((t.shape[0] if positions else 0, 3)) for t in (points, atoms)]
        return *places, *[t.new_empty((t.shape[0] if parameters else 0, *t.shape[1:])) for t in (states, table)]

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:8])
        ctx.rcut = inputs[8]

    def backward(ctx, grad):
        needs = ctx.needs_input_grad
        positions, parameters = needs[0] or needs[2], needs[6] or needs[7]
        found = torch.ops.dcharge.probe_messages_backward(grad, *ctx.saved_tensors, ctx.rcut, positions, parameters)
        d_points, d_atoms = found[:2] if positions else (None, None)
        d_states, d_table = found[2:] if parameters else (None, None)
        return d_points, None, d_atoms, None, None, None, d_states, d_table, None

    torch.library.register_autograd(lib, backward, setup_context=save)

    def save_backward(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:9])
        ctx.options = inputs[9:]

    def double_backward(ctx, *grads):
        rcut, *computed = ctx.options
        floats = [0, 1, 3, 7, 8]  # grad, points, atoms, states, table
        found = through_reference(probe_messages_reference, ctx.saved_tensors, (rcut,), floats, grads, *computed)
        return *found, *[None] * 3

    torch.library.register_autograd(lib + "_backward", double_backward, setup_context=save_backward)


if loaded():
    _register()
