"""Registration of the compiled ops with torch, and what happens without them."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cases import N_TYPES, RADIAL, case
from orbital_cases import parameters
from probe_cases import parameters as probe_parameters

from dcharge.ops import ead, gram, kernels, library, probe_messages, radial_moments, se_e2_a

LENGTHS = tuple(RADIAL.values())


def op_inputs(requires_grad):
    c = case("skewed")
    points, atoms = c.points[:4].clone(), c.atoms.clone()
    a = torch.randn(3, 4, 6, dtype=torch.float64)
    p = torch.randn(4, N_TYPES, 4, 3, dtype=torch.float64)
    orbitals = parameters(len(atoms), 3)
    probes = probe_parameters(len(atoms), 3)
    crystal = [torch.randn(n, 6, dtype=torch.float64) for n in (5, 5, 7)]  # center, neighbor, table
    edges = (torch.tensor([0, 2, 2, 3, 4, 5]), torch.tensor([1, 2, 0, 4, 3]), torch.rand(5, dtype=torch.float64))
    messages = [torch.randn(n, dtype=torch.float64) for n in ((3, 6), (5, 6), (4, 6), (4,), (7, 4))]
    filters = torch.randn(7, 6, dtype=torch.float64)
    for t in (points, atoms, a, *orbitals, *probes, *crystal, *messages, filters):
        t.requires_grad_(requires_grad)
    geometry = (points, c.point_frame[:4], atoms, *c.geometry[3:])
    untyped = (*geometry[:3], *geometry[4:], *probes, 4.0)
    fixed, fixed_orbitals = (tuple(t.detach() for t in tensors) for tensors in (geometry, orbitals))
    fixed_probes = tuple(t.detach() for t in untyped[:-1])
    fixed_crystal = tuple(t.detach() for t in crystal)
    fixed_messages = tuple(t.detach() for t in messages)
    pairs = (edges[0], edges[1] % 3, edges[2])
    index, shape = torch.tensor([-1, 0, 1, -1]), (4.0, 0.3, 1, True)
    return {
        "radial_moments": (*geometry, *LENGTHS, 3, 1, N_TYPES, torch.float64),
        "radial_moments_backward": (p, *fixed, *LENGTHS, 3, 1, N_TYPES),  # its derivative is not traceable
        "se_e2_a": (*fixed, torch.randn(N_TYPES, 2, 3, 8), None, *LENGTHS, [4], False),
        "gram": (a, [4], False),
        "gram_backward": (torch.randn(3, 24, dtype=torch.float64), a, [4], False),
        "orbital_sums": (*geometry, *orbitals, index, *shape),
        "orbital_sums_backward": (p[:, 0], *fixed, *fixed_orbitals, index, *shape, True, True),
        "orbital_gram": (a,),
        "orbital_gram_backward": (torch.randn(3, 42, dtype=torch.float64), a),
        "ead": (*fixed, *fixed_orbitals, index, torch.randn(1, 4, 3, dtype=torch.float64), *shape),
        "probe_messages": untyped,
        "probe_messages_backward": (torch.randn(4, 2, 4, 3).double(), *fixed_probes, 4.0, True, True),
        "local_environments": (*fixed[:3], *fixed[4:], 4.0, 12, 1e-4),
        "crystal_convolution": (*crystal[:2], *edges, crystal[2], 8.0),
        "crystal_convolution_backward": (torch.randn(5, 3, dtype=torch.float64), *fixed_crystal[:2], *edges,
                                         fixed_crystal[2], 8.0),
        "pair_messages": (*messages[:2], *pairs, *messages[2:], 4.0),
        "pair_messages_backward": (torch.randn(5, 4, dtype=torch.float64), *fixed_messages[:2], *pairs,
                                   *fixed_messages[2:], 4.0),
        "filtered_sums": (messages[0], *pairs, filters, 4.0),
        "filtered_sums_backward": (torch.randn(5, 6, dtype=torch.float64), fixed_messages[0], *pairs,
                                   filters.detach(), 4.0),
        "neighbors": (c.atoms, c.cell[0], c.pbc[0], 4.0, None),
    }  # fmt: skip


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", [op for op in library.COMPILED if not op.endswith("_network")])  # without gradients
def test_opcheck(compiled, name, requires_grad):
    torch.library.opcheck(getattr(torch.ops.dcharge, name).default, op_inputs(requires_grad)[name])


def test_compile(compiled):
    c = case("skewed")
    coefficients = torch.randn(N_TYPES, 2, 5, 8, dtype=torch.float64, requires_grad=True)
    inputs = (c.points.clone().requires_grad_(), c.atoms.clone().requires_grad_(), coefficients)

    def f(points, atoms, coefficients):
        geometry = (points, c.point_frame, atoms, *c.geometry[3:])
        d = se_e2_a(*geometry, coefficients, None, **RADIAL, axis_neuron=4)
        p = radial_moments(*geometry, **RADIAL, n_radial=5, l_max=1, n_types=N_TYPES, out_dtype=torch.float64)
        return d.square().mean() + gram(p[:, 0], 3).sum()

    check_compiled(f, inputs)


def test_compile_orbitals(compiled):
    c = case("skewed")
    inputs = [t.clone().requires_grad_() for t in (c.points, c.atoms, *parameters(len(c.atoms), 3))]

    def f(points, atoms, *orbitals):
        geometry = (points, c.point_frame, atoms, *c.geometry[3:])
        return ead(*geometry, *orbitals, rcut=4.0, l_max=2, soft=0.3, direction="raw").square().mean()

    check_compiled(f, inputs)


def test_compile_probe_messages(compiled):
    c = case("skewed")
    inputs = [t.clone().requires_grad_() for t in (c.points, c.atoms, *probe_parameters(len(c.atoms), 3))]

    def f(points, atoms, states, table):
        geometry = (points, c.point_frame, atoms, *c.geometry[4:])
        return probe_messages(*geometry, states, table, rcut=4.0).square().mean()

    check_compiled(f, inputs)


def check_compiled(f, inputs):
    traced = torch.compile(f, fullgraph=True, backend="aot_eager")
    for x, y in zip(torch.autograd.grad(traced(*inputs), inputs), torch.autograd.grad(f(*inputs), inputs), strict=True):
        assert torch.allclose(x, y)


def test_kernels_names_what_is_active(backend):
    want = {"reference": "torch reference", "avx512": "AVX-512", "avx2": "AVX2", "baseline": "baseline"}[backend]
    assert set(kernels().values()) == {want} and set(kernels()) == set(library.COMPILED)


def test_missing_library_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "PATH", tmp_path / "libdcharge_ops.so")
    found, reason = library._load()
    assert found is None and "does not exist" in reason
    library.PATH.write_bytes(b"not a library")
    found, reason = library._load()
    assert found is None and reason and "\n" not in reason


def test_library_of_older_sources_says_so(compiled, monkeypatch):
    monkeypatch.setattr(library, "COMPILED", (*library.COMPILED, "op_of_tomorrow"))
    found, reason = library._load()
    assert found is None and reason == "built from older sources, without op_of_tomorrow"


def test_direct_calls_are_checked(compiled):
    c = case("skewed")
    with pytest.raises(RuntimeError, match="atom_type: values must lie in 0..0"):
        torch.ops.dcharge.radial_moments(*c.geometry, *LENGTHS, 3, 1, 1, torch.float64)
    with pytest.raises(RuntimeError, match="points: a coordinate is not a finite number"):
        bad = c.with_points(torch.full_like(c.points, float("nan")), c.point_frame)
        torch.ops.dcharge.radial_moments(*bad, *LENGTHS, 3, 1, N_TYPES, torch.float64)
    with pytest.raises(RuntimeError, match="axis: values must lie in 1..M"):
        torch.ops.dcharge.gram(torch.zeros(1, 4, 4), [5], False)


def test_binary_needs_only_the_stable_abi(compiled):
    if shutil.which("nm") is None:
        pytest.skip("nm not found")
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", "-C", str(Path(library.PATH))], capture_output=True, text=True, check=True
    ).stdout
    assert "torch_call_dispatcher" in symbols
    assert not [line for line in symbols.splitlines() if "at::" in line or "c10::" in line]


def test_gpu_without_cuda_kernels_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(library, "cuda_architectures", lambda: [])
    monkeypatch.setattr("dcharge.errors._said", set())
    gpu = torch.device("cuda", 0)
    assert not library.compiled_for(gpu) and not library.compiled_for(gpu)
    assert sum("without CUDA kernels" in r.getMessage() for r in caplog.records) == (1 if library.loaded() else 0)
    assert set(kernels("cuda").values()) == {"torch reference"}


def test_names_of_architectures(compiled, monkeypatch):
    class Library:
        def dcharge_cuda_architectures(self):
            return b"80-real,90a-real,80-virtual,120"

    monkeypatch.setattr(library, "_library", Library())
    assert library.cuda_architectures() == ["sm_80", "sm_90a", "PTX 80", "sm_120", "PTX 120"]
    assert set(kernels("cuda").values()) == {"CUDA (sm_80, sm_90a, PTX 80, sm_120, PTX 120)"}
    assert library.compiled_for(torch.device("cuda"))
