"""The ops that are checked and measured. A new op is one decorated function; nothing else names ops.

The function gets a System and a dtype and returns (call, inputs, arguments): call(*inputs) is the public op of its
differentiable inputs, arguments those of torch.ops.dcharge.<name>. The decorator takes the work per point, from which
the counted limit follows: multiply-adds, a function of the system, and bytes of memory traffic, one of the system and
the size of an element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .systems import System

OPS: dict[str, Op] = {}


@dataclass
class Op:
    """make(system, dtype) as above; work per point, or None where a rate means nothing."""

    make: Callable
    flops: Callable | None
    traffic: Callable | None


def op(flops: Callable | None = None, traffic: Callable | None = None):
    """Registers an op under the name of the function."""

    def register(make):
        OPS[make.__name__] = Op(make, flops, traffic)
        return make

    return register


def neighbours(s: System) -> float:
    """Mean number of neighbours of a point."""
    volume = float(torch.linalg.det(s.cell[0]).abs())
    return len(s.atoms) / volume * 4 / 3 * math.pi * s.rcut**3


def components(s: System) -> int:
    """(l_max + 1)^2"""
    return (s.l_max + 1) ** 2


def pair_flops(s: System) -> float:
    """Multiply-adds of the moments: every pair evaluates K functions and adds them to all components."""
    return neighbours(s) * ((components(s) + 1) * s.n_radial + 32)


def moment_bytes(s: System, size: int) -> float:
    """The moments of a point."""
    return s.n_types * components(s) * s.n_radial * size


def random(shape, like: torch.Tensor, dtype, seed: int = 7) -> torch.Tensor:
    """The same numbers on every device and in every precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(like.device, dtype)


@op(flops=pair_flops, traffic=lambda s, size: 24 + moment_bytes(s, size))
def radial_moments(s: System, dtype):
    """Moments, and through autograd radial_moments_backward."""
    from dcharge import ops

    options = dict(**s.radial, n_radial=s.n_radial, l_max=s.l_max, n_types=s.n_types)

    def call(points, atoms):
        geometry = (points, s.point_frame, atoms, s.atom_type, s.atom_frame, s.cell, s.pbc)
        return ops.radial_moments(*geometry, **options, out_dtype=dtype)

    arguments = (s.points, s.point_frame, s.atoms, s.atom_type, s.atom_frame, s.cell, s.pbc, *options.values(), dtype)
    return call, (s.points, s.atoms), arguments


@op(flops=lambda s: 2.2 * pair_flops(s), traffic=lambda s, size: 48 + moment_bytes(s, size))
def radial_moments_backward(s: System, dtype):
    """Called by itself, for its rate; its own derivative goes through the reference."""
    options = (*s.radial.values(), s.n_radial, s.l_max, s.n_types)
    shape = (len(s.points), s.n_types, components(s), s.n_radial)
    geometry = (s.points, s.point_frame, s.atoms, s.atom_type, s.atom_frame, s.cell, s.pbc)
    arguments = (random(shape, s.points, dtype), *geometry, *options)
    return lambda: torch.ops.dcharge.radial_moments_backward(*arguments), (), arguments


@op(
    flops=lambda s: pair_flops(s) + components(s) * s.width * (s.n_types * s.n_radial + 16),
    traffic=lambda s, size: 24 + (s.width * 16 + 2 * components(s) * s.width) * size + 2 * moment_bytes(s, size),
)
def se_e2_a(s: System, dtype):
    """The whole descriptor, joint Gram matrix with 16 axis columns (8 for narrow ones)."""
    from dcharge import ops

    axis = min(16, s.width)
    coefficients = random((s.n_types, s.l_max + 1, s.n_radial, s.width), s.points, dtype) / s.n_radial
    offset = random((s.width,), s.points, dtype, seed=8)

    def call(points, atoms, coefficients, offset):
        geometry = (points, s.point_frame, atoms, s.atom_type, s.atom_frame, s.cell, s.pbc)
        return ops.se_e2_a(*geometry, coefficients, offset, **s.radial, axis_neuron=axis)

    geometry = (s.points, s.point_frame, s.atoms, s.atom_type, s.atom_frame, s.cell, s.pbc)
    arguments = (*geometry, coefficients, offset, *s.radial.values(), [axis], False)
    return call, (s.points, s.atoms, coefficients, offset), arguments


@op(
    flops=lambda s: components(s) * s.width * 16,
    traffic=lambda s, size: (s.width * 16 + components(s) * s.width) * size,
)
def gram(s: System, dtype):
    """Gram matrix, and through autograd gram_backward."""
    from dcharge import ops

    a, axis = random((len(s.points), components(s), s.width), s.points, dtype), min(16, s.width)
    return lambda a: ops.gram(a, axis), (a,), (a, [axis], False)


@op(
    flops=lambda s: 2 * components(s) * s.width * 16,
    traffic=lambda s, size: (s.width * 16 + 2 * components(s) * s.width) * size,
)
def gram_backward(s: System, dtype):
    """Called by itself, for its rate."""
    a, axis = random((len(s.points), components(s), s.width), s.points, dtype), min(16, s.width)
    arguments = (random((len(s.points), s.width * axis), s.points, dtype, seed=9), a, [axis], False)
    return lambda: torch.ops.dcharge.gram_backward(*arguments), (), arguments


def monomials(s: System) -> int:
    """Unique Cartesian monomials of degree 0..2 at most: the compiled kernels end there."""
    return (1, 4, 10)[degree(s)]


def degree(s: System) -> int:
    """l_max of the orbitals."""
    return min(s.l_max, 2)


def n_waves(s: System) -> int:
    """Waves of the orbitals: 8 for the default width."""
    return max(1, s.width // 3)


def orbital_flops(s: System) -> float:
    """Multiply-adds of orbital sums: an exponential (12) and all components for every wave of a pair, its geometry."""
    return neighbours(s) * (n_waves(s) * (monomials(s) + 14) + 40)


def features(s: System) -> int:
    """Unique entries of the Gram matrices of all degrees."""
    return (degree(s) + 1) * n_waves(s) * (n_waves(s) + 1) // 2


def orbitals(s: System, dtype):
    """coefficients, center, exponent, point_atom of a system, and its options."""
    shape = (s.n_types, n_waves(s))
    table = (s.rcut * random(shape, s.points, dtype, 11).sigmoid(), -random(shape, s.points, dtype, 12).sigmoid())
    atom = torch.full((len(s.points),), -1, device=s.points.device)
    atom[:1] = 0  # the first point of a random system lies on the first atom
    return (random((len(s.atoms), n_waves(s)), s.points, dtype, 10), *table), atom, (s.rcut, 0.5, degree(s))


def orbital_call(name: str, s: System, dtype, field: bool):
    """(call, inputs, arguments) of an op that sums orbitals."""
    from dcharge import ops

    tensors, atom, (rcut, soft, l_max) = orbitals(s, dtype)
    fields = (random((len(s.cell), monomials(s), n_waves(s)), s.points, dtype, 13),) if field else ()

    def call(points, atoms, *floats):
        geometry = (points, s.point_frame, atoms, s.atom_type, s.atom_frame, s.cell, s.pbc)
        options = dict(point_atom=atom, rcut=rcut, l_max=l_max, soft=soft, direction="unit")
        return getattr(ops, name)(*geometry, *floats, **options)

    geometry = (s.points, s.point_frame, s.atoms, s.atom_type, s.atom_frame, s.cell, s.pbc)
    arguments = (*geometry, *tensors, atom, *fields, rcut, soft, l_max, True)
    return call, (s.points, s.atoms, *tensors, *fields), arguments


@op(flops=orbital_flops, traffic=lambda s, size: 32 + monomials(s) * n_waves(s) * size)
def orbital_sums(s: System, dtype):
    """Orbital sums, and through autograd orbital_sums_backward."""
    return orbital_call("orbital_sums", s, dtype, False)


@op(flops=lambda s: 2 * orbital_flops(s), traffic=lambda s, size: 56 + monomials(s) * n_waves(s) * size)
def orbital_sums_backward(s: System, dtype):
    """Called by itself, for its rate; all gradients at once."""
    _, _, arguments = orbital_call("orbital_sums", s, dtype, False)
    arguments = (random((len(s.points), monomials(s), n_waves(s)), s.points, dtype), *arguments, True, True)
    return lambda: torch.ops.dcharge.orbital_sums_backward(*arguments), (), arguments


@op(
    flops=lambda s: monomials(s) * n_waves(s) * (n_waves(s) + 1) / 2,
    traffic=lambda s, size: (monomials(s) * n_waves(s) + features(s)) * size,
)
def orbital_gram(s: System, dtype):
    """Gram matrices of orbital sums, and through autograd orbital_gram_backward."""
    from dcharge import ops

    sums = random((len(s.points), monomials(s), n_waves(s)), s.points, dtype)
    return ops.orbital_gram, (sums,), (sums,)


@op(
    flops=lambda s: monomials(s) * n_waves(s) * (n_waves(s) + 1),
    traffic=lambda s, size: (2 * monomials(s) * n_waves(s) + features(s)) * size,
)
def orbital_gram_backward(s: System, dtype):
    """Called by itself, for its rate."""
    sums = random((len(s.points), monomials(s), n_waves(s)), s.points, dtype)
    arguments = (random((len(s.points), features(s)), s.points, dtype, seed=9), sums)
    return lambda: torch.ops.dcharge.orbital_gram_backward(*arguments), (), arguments


@op(
    flops=lambda s: orbital_flops(s) + monomials(s) * n_waves(s) * (n_waves(s) + 1) / 2,
    traffic=lambda s, size: 32 + (features(s) + 2 * monomials(s) * n_waves(s)) * size,
)
def ead(s: System, dtype):
    """The embedded-atom features, with a field in every frame."""
    return orbital_call("ead", s, dtype, True)


LAYERS, KNOTS = 3, 1024  # of probe messages, as in DeepDFT


def probe_flops(s: System) -> float:
    """Multiply-adds of probe messages: three filters from four knots, four components, for every layer and feature."""
    return neighbours(s) * LAYERS * s.width * 20


def probe_call(s: System, dtype):
    """(call, inputs, arguments) of probe_messages; filters are smooth."""
    from dcharge import ops

    states = random((len(s.atoms), LAYERS, 5, s.width), s.points, dtype)
    r = torch.linspace(0, 1, KNOTS, dtype=torch.float64)[:, None]
    waves = torch.cos(math.pi * r * torch.arange(6)) * (0.5 + 0.5 * torch.cos(math.pi * r))
    table = waves.to(s.points.device, dtype) @ random((LAYERS, 3, 6, s.width), s.points, dtype, 8)

    def call(points, atoms, states, table):
        return ops.probe_messages(points, s.point_frame, atoms, s.atom_frame, s.cell, s.pbc, states, table, rcut=s.rcut)

    geometry = (s.points, s.point_frame, s.atoms, s.atom_frame, s.cell, s.pbc)
    return call, (s.points, s.atoms, states, table), (*geometry, states, table, s.rcut)


@op(flops=probe_flops, traffic=lambda s, size: 32 + 4 * LAYERS * s.width * size)
def probe_messages(s: System, dtype):
    """Messages from atoms to probes, and through autograd probe_messages_backward."""
    return probe_call(s, dtype)


@op(flops=lambda s: 2 * probe_flops(s), traffic=lambda s, size: 32 + 4 * LAYERS * s.width * size)
def probe_messages_backward(s: System, dtype):
    """Called by itself, for its rate; the gradients that training asks for."""
    _, _, arguments = probe_call(s, dtype)
    arguments = (random((len(s.points), LAYERS, 4, s.width), s.points, dtype, 9), *arguments, False, True)
    return lambda: torch.ops.dcharge.probe_messages_backward(*arguments), (), arguments


EDGES, CUTOFF = 12, 8.0  # of a node of a crystal graph; end of its table, Angstrom


def crystal_flops(s: System) -> float:
    """Multiply-adds of a node: per edge and feature gate and core from four knots, sigmoid and softplus (40)."""
    return EDGES * s.width * (2 * 5 + 40)


def crystal(s: System, dtype):
    """A graph with a node for every point: tensors of crystal_convolution. One node has no edges."""
    n, width = len(s.points), 2 * s.width
    degree = torch.full((n,), EDGES, device=s.points.device)
    degree[:1] = 0
    offset = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    edge = torch.arange((n - 1) * EDGES if n else 0, device=s.points.device)
    target = (edge // EDGES + 7 * (edge % EDGES)) % max(n, 1)
    distance = CUTOFF * random((len(edge),), s.points, torch.float64, 15).sigmoid()
    center, neighbor = (random((n, width), s.points, dtype, seed) for seed in (16, 17))
    return center, neighbor, offset, target, distance, random((KNOTS, width), s.points, dtype, 18)


def crystal_bytes(s: System, size: int) -> float:
    """Traffic of a node: both of its rows and the result; its edges."""
    return 5 * s.width * size + 8 + 16 * EDGES


@op(flops=crystal_flops, traffic=crystal_bytes)
def crystal_convolution(s: System, dtype):
    """Gated sums over the edges of a graph, and through autograd crystal_convolution_backward."""
    from dcharge import ops

    center, neighbor, *edges, table = crystal(s, dtype)

    def call(center, neighbor, table):
        return ops.crystal_convolution(center, neighbor, *edges, table, cutoff=CUTOFF)

    return call, (center, neighbor, table), (center, neighbor, *edges, table, CUTOFF)


@op(flops=lambda s: 2 * crystal_flops(s), traffic=lambda s, size: 2 * crystal_bytes(s, size))
def crystal_convolution_backward(s: System, dtype):
    """Called by itself, for its rate."""
    arguments = (random((len(s.points), s.width), s.points, dtype, 9), *crystal(s, dtype), CUTOFF)
    return lambda: torch.ops.dcharge.crystal_convolution_backward(*arguments), (), arguments


@op()
def neighbors(s: System, dtype):
    """Atoms of frame 0 around its points; integers, so they must be the same."""
    from dcharge import ops

    atoms, targets = s.atoms[s.atom_frame == 0], s.points[s.point_frame == 0]
    arguments = (atoms, s.cell[0], s.pbc[0], s.rcut, targets)
    return lambda: ops.neighbors(*arguments), (), arguments
