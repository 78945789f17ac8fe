"""The Python example and the input file of the README work as printed."""

import json
import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language):
    """The one code block of `language`."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    return text


def test_python_example(silicon_frozen, tmp_path, monkeypatch, capsys):
    (tmp_path / "frozen.pth").write_bytes(Path(silicon_frozen).read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "README.md", "exec"), {})
    shape, electrons = re.match(r"\((\d+, \d+, \d+)\) grid, (\S+) electrons", capsys.readouterr().out).groups()
    assert shape == "24, 24, 24"
    assert 20 < float(electrons) < 50  # 8 atoms with 4 valence electrons each, by a hardly trained model
    assert (tmp_path / "rho.cube").stat().st_size > 24**3


def test_input_file():
    from dcharge.config import normalize

    config = normalize(json.loads(block("json")))
    assert config["model"]["type_map"] == ["O", "H"]


def test_length():
    assert len(README.splitlines()) < 120
