"""The blocks of the CUDA kernels against the references, on the CPU: python contract.py LIBRARY.

Run by test_cuda_blocks.py in a process of its own, so that the sanitizers the library is built with are loaded first.
Every line it prints is a failure.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import FRAMES, N_TYPES, RADIAL, Case, relative_error, tolerance  # noqa: E402
from orbital_cases import SOFT, parameters  # noqa: E402
from probe_cases import parameters as probe_parameters  # noqa: E402

from dcharge.ops.crystal_convolution import crystal_convolution_reference  # noqa: E402
from dcharge.ops.ead import orbital_gram_backward_reference, orbital_gram_reference  # noqa: E402
from dcharge.ops.gram import gram_backward_reference, gram_reference  # noqa: E402
from dcharge.ops.moments import radial_moments_reference  # noqa: E402
from dcharge.ops.neighbors import neighbors_reference  # noqa: E402
from dcharge.ops.orbitals import orbital_sums_reference  # noqa: E402
from dcharge.ops.probe_messages import probe_messages_reference  # noqa: E402

DTYPES = (torch.float64, torch.float32)
MOMENTS = [(0, 5), (1, 11), (1, 37), (2, 18), (3, 11)]  # l_max, n_radial: below, at and beyond what a thread holds
GRAMS = [(1, 80, [16], False), (1, 20, [5], False), (0, 9, [9], False), (2, 23, [20, 3, 8], True),
         (3, 6, [1, 2, 3, 4], True), (1, 200, [150], False)]  # fmt: skip
LENGTHS = tuple(RADIAL.values())


def close(what, found, exact, dtype, gradient=False):
    error = relative_error(found, exact)
    if found.shape != exact.shape or not error < tolerance(dtype, gradient):
        print(f"{what}: error {error:.1e}, shape {tuple(found.shape)}")


def moments(op, name, n_points):
    """One block, several blocks, no points at all."""
    c = Case(name, max(n_points, 29))
    points, frame, atoms, *rest = c.geometry if n_points else c.with_points(c.points[:0], c.point_frame[:0])
    for l_max, n_radial in MOMENTS if n_points == 29 else MOMENTS[1:2]:
        p, a = points.clone().requires_grad_(), atoms.clone().requires_grad_()
        options = (*LENGTHS, n_radial, l_max, N_TYPES)
        exact = radial_moments_reference(p, frame, a, *rest, *options, torch.float64)
        weight = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(1))
        gradients = torch.autograd.grad((exact * weight).sum(), (p, a))
        for dtype in DTYPES:
            what = f"{name}, {n_points} points, l_max {l_max}, n_radial {n_radial}, {dtype}"
            close(what, op.radial_moments(points, frame, atoms, *rest, *options, dtype), exact, dtype)
            found = op.radial_moments_backward(weight.to(dtype), points, frame, atoms, *rest, *options)
            for x, y in zip(found, gradients, strict=True):
                close(f"gradient, {what}", x, y, dtype, gradient=True)


def orbitals(op, name, n_points):
    """Free points and atoms among each other, fewer and more waves than a thread holds, every choice of gradients."""
    c = Case(name, max(n_points, 29))
    free = c.geometry[:2] if n_points else (c.points[:0], c.point_frame[:0])
    at_atoms = (c.atoms, c.atom_frame, torch.arange(len(c.atoms)))
    sizes = [(0, 9, False), (1, 3, True), (2, 11, False), (2, 8, True)] if n_points == 29 else [(2, 5, True)]
    for l_max, n_waves, unit in sizes:
        for points, frame, index in ((*free, None), at_atoms):
            inputs = [t.clone().requires_grad_() for t in (points, c.atoms, *parameters(len(c.atoms), n_waves))]
            shape = (RADIAL["rcut"], SOFT["unit" if unit else "raw"], l_max, unit)
            exact = orbital_sums_reference(inputs[0], frame, inputs[1], *c.geometry[3:], *inputs[2:], index, *shape)
            weight = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(1))
            gradients = torch.autograd.grad((exact * weight).sum(), inputs)
            geometry = (points, frame, c.atoms, *c.geometry[3:])
            for dtype in DTYPES:
                what = f"orbitals, {name}, {len(points)} points, l_max {l_max}, {n_waves} waves, unit {unit}, {dtype}"
                tables = parameters(len(c.atoms), n_waves, dtype)
                close(what, op.orbital_sums(*geometry, *tables, index, *shape), exact, dtype)
                for wanted in ((True, True), (True, False), (False, True)):
                    found = op.orbital_sums_backward(weight.to(dtype), *geometry, *tables, index, *shape, *wanted)
                    for k, (x, y) in enumerate(zip(found, gradients, strict=True)):
                        y = y if wanted[k >= 2] else y[:0]
                        close(f"gradient {k}, {what}", x, y, dtype, gradient=True)
                        if k >= 2 and x.dtype != dtype:
                            print(f"gradient {k}, {what}: is {x.dtype}")


def orbital_grams(op):
    for n_comp, n_waves in ((1, 5), (4, 1), (10, 8)):
        s = torch.randn(5, n_comp, n_waves, dtype=torch.float64, generator=torch.manual_seed(3))
        exact = orbital_gram_reference(s)
        grad = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(4))
        gradient = orbital_gram_backward_reference(grad, s)
        for dtype in DTYPES:
            what = f"orbital_gram, {n_comp} components, {n_waves} waves, {dtype}"
            close(what, op.orbital_gram(s.to(dtype)), exact, dtype)
            found = op.orbital_gram_backward(grad.to(dtype), s.to(dtype))
            close(f"gradient, {what}", found, gradient, dtype, gradient=True)


def probes(op, name, n_points):
    """One part of the features and two; one block of points, several, none."""
    c = Case(name, max(n_points, 29))
    points, frame = (c.points, c.point_frame) if n_points else (c.points[:0], c.point_frame[:0])
    for n_features, n_layers in ((19, 2), (130, 1)) if n_points == 29 else ((19, 2),):
        probe_contract(op, f"probes, {name}, {n_points} points, {n_features} features",
                       (points, frame, c.atoms, *c.geometry[4:]), n_features, n_layers)  # fmt: skip


def probe_contract(op, what, geometry, n_features, n_layers):
    points, frame, atoms, *rest = geometry
    tables = probe_parameters(len(atoms), n_features, n_layers)
    inputs = [t.clone().requires_grad_() for t in (points, atoms, *tables)]
    exact = probe_messages_reference(inputs[0], frame, inputs[1], *rest, *inputs[2:], RADIAL["rcut"])
    weight = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(1))
    gradients = torch.autograd.grad((exact * weight).sum(), inputs)
    for dtype in DTYPES:
        given = (*geometry, *(t.to(dtype) for t in tables), RADIAL["rcut"])
        close(f"{what}, {dtype}", op.probe_messages(*given), exact, dtype)
        for wanted in ((True, True), (True, False), (False, True)):
            found = op.probe_messages_backward(weight.to(dtype), *given, *wanted)
            for k, (x, y) in enumerate(zip(found, gradients, strict=True)):
                y = y if wanted[k >= 2] else y[:0]
                close(f"gradient {k}, {what}, {dtype}", x, y, dtype, gradient=True)
                if k >= 2 and x.dtype != dtype:
                    print(f"gradient {k}, {what}: is {x.dtype}")


def crystals(op):
    """Nodes without edges, edges at both ends of the table, no nodes; an edge that is not there makes nan."""
    for n_nodes, n_features in ((23, 5), (300, 64), (0, 3)):
        g = torch.Generator().manual_seed(n_nodes)
        degree = torch.randint(0, 15, (n_nodes,), generator=g)
        offset = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        target = torch.randint(0, max(n_nodes, 1), (int(offset[-1]),), generator=g)
        distance = 8 * torch.rand(len(target), dtype=torch.float64, generator=g)
        distance[:2] = torch.tensor([0.0, 8.0])[: len(distance)]
        floats = [torch.randn(n, 2 * n_features, dtype=torch.float64, generator=g) for n in (n_nodes, n_nodes, 40)]
        center, neighbor, table = inputs = [x.requires_grad_() for x in floats]
        exact = crystal_convolution_reference(center, neighbor, offset, target, distance, table, 8.0)
        weight = torch.randn(exact.shape, dtype=torch.float64, generator=g)
        gradients = torch.autograd.grad((exact * weight).sum(), inputs)
        for dtype in DTYPES:
            center, neighbor, table = (x.detach().to(dtype) for x in inputs)
            given = (center, neighbor, offset, target, distance, table, 8.0)
            what = f"crystal_convolution, {n_nodes} nodes, {n_features} features, {dtype}"
            close(what, op.crystal_convolution(*given), exact, dtype)
            found = op.crystal_convolution_backward(weight.to(dtype), *given)
            for x, y in zip(found, gradients, strict=True):
                close(f"gradient, {what}", x, y, dtype, gradient=True)
        for bad in (target + n_nodes, -1 - target):
            out = op.crystal_convolution(center, neighbor, offset, bad, distance, table, 8.0)
            if not torch.equal(torch.isnan(out).all(1), degree > 0):
                print("crystal_convolution: an edge that is not there passed")


def many_candidates(op):
    """More atoms near one block than shared memory lists at once, and frames that change inside a block."""
    generator = torch.manual_seed(2)
    atoms = torch.rand(900, 3, dtype=torch.float64, generator=generator) * 4
    points = torch.rand(40, 3, dtype=torch.float64, generator=generator) * 4
    frame, atom_frame = (torch.randint(0, 3, (n,), generator=generator) for n in (40, 900))
    types = torch.randint(0, N_TYPES, (900,), generator=generator)
    geometry = (points, frame, atoms, types, atom_frame, torch.eye(3, dtype=torch.float64).repeat(3, 1, 1) * 5)
    pbc = torch.tensor([[True] * 3, [False] * 3, [True, False, True]])
    arguments = (*geometry, pbc, *LENGTHS, 6, 1, N_TYPES)
    exact = radial_moments_reference(*arguments, torch.float64)
    close("many candidates", op.radial_moments(*arguments, torch.float64), exact, torch.float64)
    tables, shape = parameters(900, 5), (LENGTHS[0], 0.3, 1, False)
    inputs = [t.clone().requires_grad_() for t in (points, atoms, *tables)]
    given = (inputs[0], frame, inputs[1], *geometry[3:], pbc, *inputs[2:], None, *shape)
    exact = orbital_sums_reference(*given)
    fixed = [t.detach() if isinstance(t, torch.Tensor) else t for t in given]
    close("many candidates, orbitals", op.orbital_sums(*fixed), exact, torch.float64)
    found = op.orbital_sums_backward(exact.detach(), *fixed, True, True)
    for x, y in zip(found, torch.autograd.grad(exact.square().sum() / 2, inputs), strict=True):
        close("gradient, many candidates, orbitals", x, y, torch.float64, gradient=True)
    untyped = (points, frame, atoms, atom_frame, geometry[5], pbc)
    probe_contract(op, "many candidates, probes", untyped, 5, 1)


def neighbor_list(op, name):
    c = Case(name)
    for targets in (None, c.points):
        arguments = (c.atoms, c.cell[0], c.pbc[0], 4.3, targets)
        found, exact = op.neighbors(*arguments), neighbors_reference(*arguments)
        if not (torch.equal(found[0], exact[0]) and torch.equal(found[1], exact[1])):
            print(f"neighbors: {name}, {'atoms' if targets is None else 'targets'}")


def grams(op):
    for l_max, m, axis, per_l in GRAMS:
        a = torch.randn(5, (l_max + 1) ** 2, m, dtype=torch.float64, generator=torch.manual_seed(3))
        exact = gram_reference(a, axis, per_l)
        grad = torch.randn(exact.shape, dtype=torch.float64, generator=torch.manual_seed(4))
        gradient = gram_backward_reference(grad, a, axis, per_l)
        for dtype in DTYPES:
            what = f"gram, l_max {l_max}, M {m}, axis {axis}, {dtype}"
            close(what, op.gram(a.to(dtype), axis, per_l), exact, dtype)
            found = op.gram_backward(grad.to(dtype), a.to(dtype), axis, per_l)
            close(f"gradient, {what}", found, gradient, dtype, gradient=True)


def refused(op, text, change):
    c = Case("skewed")
    names = ("points", "point_frame", "atoms", "atom_type", "atom_frame", "cell", "pbc")
    given = {**dict(zip(names, c.geometry, strict=True)), **change}
    try:
        op.radial_moments(*given.values(), *LENGTHS, 3, 1, N_TYPES, torch.float64)
    except RuntimeError as error:
        if text in str(error):
            return
        print(f"'{text}' expected, got: {error}")
    else:
        print(f"'{text}' expected, no error")


def main():
    torch.set_num_threads(1)
    torch.ops.load_library(sys.argv[1])
    op = torch.ops.dcharge_host
    for name in FRAMES:
        for n_points in (29, 300, 0) if name in ("skewed", "two_frames") else (29,):
            moments(op, name, n_points)
            orbitals(op, name, n_points)
            probes(op, name, n_points)
        if name != "two_frames":
            neighbor_list(op, name)
    many_candidates(op)
    grams(op)
    orbital_grams(op)
    crystals(op)
    refused(op, "points: a coordinate", dict(points=torch.full((29, 3), float("nan"), dtype=torch.float64)))
    refused(op, "atoms: a coordinate", dict(atoms=torch.full((5, 3), 1e13, dtype=torch.float64)))
    refused(op, "atom_type: values must lie in 0..1", dict(atom_type=torch.full((5,), 2)))
    refused(op, "point_frame: values must lie in 0..0", dict(point_frame=torch.full((29,), -1)))
    refused(op, "zero volume", dict(cell=torch.zeros(1, 3, 3, dtype=torch.float64)))


if __name__ == "__main__":
    main()
