"""`dcharge info`: a kernel for every op, and a warning where one is slow."""

import pytest

from dcharge.cli import main

pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("kernels", "warned"),
    [
        ({"neighbors": "cpu", "radial_moments": "AVX-512"}, []),
        ({"neighbors": "torch reference", "radial_moments": "AVX2"}, ["neighbors"]),
    ],
)
def test_versions_and_kernels(kernels, warned, monkeypatch, capsys):
    monkeypatch.setattr("dcharge.ops.kernels", lambda device="cpu": kernels, raising=False)
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [x.split()[0] for x in lines[:4]] == ["dcharge", "python", "torch", "numpy"]
    for op, kernel in kernels.items():
        assert any(x.split(None, 1) == [op, kernel] for x in lines)
    warnings = [x for x in lines if x.startswith("warning: ")]
    assert len(warnings) == len(warned) and all(op in warnings[0] for op in warned)
