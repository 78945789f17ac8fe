import pytest

from dcharge.ops import library

BACKENDS = ("reference", "avx512", "avx2", "baseline")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Every way an op can be computed on this machine: the torch reference, each instruction set of the kernels."""
    if request.param == "reference":
        monkeypatch.setattr(library, "_library", None)
        yield request.param
        return
    before = library.isa()
    if not library.select_isa(request.param):
        pytest.skip(f"no {request.param} kernels here")
    yield request.param
    library.select_isa(before)


@pytest.fixture
def compiled():
    """Skips where the kernels are not built."""
    if not library.loaded():
        pytest.skip("kernels not built")
