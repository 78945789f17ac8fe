"""The command line: help without heavy imports, exit codes, one line per error, the log's format."""

import errno
import importlib
import logging
import os
import re
import subprocess
import sys

import pytest

from dcharge.cli import main
from dcharge.cli.main import COMMANDS, one_line
from dcharge.cli.shared import logging_as
from dcharge.errors import InputError, log

command = importlib.import_module("dcharge.cli.main")
HEAVY = ("torch", "numpy", "ase", "scipy", "h5py", "dargs", "yaml", "matplotlib")


def dcharge(*args, cwd=None):
    """Run `python -m dcharge` -> CompletedProcess with text output."""
    call = [sys.executable, "-m", "dcharge", *args]
    return subprocess.run(call, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


def imported_by(*args) -> set[str]:
    """Top-level modules in sys.modules after `dcharge ARGS`."""
    code = (
        "import sys, contextlib, io\n"
        "from dcharge.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    main({list(args)!r})\n"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("args", [["-h"], ["--version"], ["train", "-h"], ["predict", "-h"]])
def test_help_imports_nothing_heavy(args):
    assert not imported_by(*args) & set(HEAVY)


def test_reading_the_input_does_not_import_torch(tmp_path):
    assert "torch" not in imported_by("train", str(tmp_path / "missing.json"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert main([name, "-h"]) == 0
    text = capsys.readouterr().out
    assert f"usage: dcharge {name}" in text and "--log-level" in text


def test_no_command_prints_help(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "unknown command 'trian'; did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["train"],
        ["train", "a", "-r", "x", "-i", "y"],
        ["predict", "a.cif", "-o", "b.cube"],
        ["predict", "a.cif", "--grid", "1", "2", "0", "-o", "b.cube"],
        ["predict", "a.cif", "--spacing", "0.1"],
        ["test", "-s", "a", "--pbc", "T", "T", "X"],
        ["test", "-s", "a", "--field", "0", "0", "nan"],
        ["freeze", "-v", "LOUD"],
    ],
)
def test_wrong_usage_exits_2(args, capsys):
    assert main(args) == 2
    assert f"dcharge {args[0]}: error: " in capsys.readouterr().err


def test_input_error_is_one_line_and_exit_1(tmp_path):
    (tmp_path / "input.json").write_text('{"model": {"type": "deep_charge", "type_map": ["Si"], "descripter": {}}}')
    done = dcharge("train", "input.json", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "dcharge: error: input.json: model/descripter: unknown key; did you mean 'descriptor'?\n"


def test_traceback_only_with_debug(tmp_path):
    done = dcharge("train", "missing.json", "-v", "DEBUG", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert done.stderr.endswith("dcharge: error: missing.json: no such file\n")


def test_schema_into_a_closed_pipe_is_quiet():
    process = subprocess.Popen(
        [sys.executable, "-m", "dcharge", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 1
    process.stderr.close()


class OutOfMemoryError(RuntimeError):
    """Stands for torch's."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("a.json: b"), "a.json: b"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "out of memory"),
        (MemoryError("Unable to allocate 7 GiB"), "out of memory: Unable to allocate 7 GiB"),
        (OutOfMemoryError("CUDA\n out"), "out of memory: CUDA out"),
        (RuntimeError("DefaultCPUAllocator: can't"), "out of memory: DefaultCPUAllocator: can't"),
        (RuntimeError("CUDA: no kernel image is available for execution on the device"),
         "this GPU's architecture is none that torch and dcharge were built for (dcharge info; --device cpu)"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x.cube"), "x.cube: No such file or directory"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x.cube"), "x.cube: Permission denied"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"),
         "Python package 'h5py' is not installed; run: pip install h5py"),
        (ImportError("cannot import name '_io' from 'dcharge' (x)", name="dcharge"),
         "the compiled parts of dcharge are missing; run: pip install ."),
        (ValueError("two\nlines"), "ValueError: two lines (this is a bug; run again with -v DEBUG)"),
    ],
)  # fmt: skip
def test_what_is_said_about_an_exception(error, text, monkeypatch, capsys):
    assert one_line(error) == text

    def run(args):
        raise error

    monkeypatch.setattr("dcharge.cli.schema.run", run)
    assert main(["schema"]) == 1
    assert capsys.readouterr().err == f"dcharge: error: {text}\n"


def test_log_format_and_file(tmp_path, capsys):
    path = tmp_path / "run.log"
    with logging_as(logging.INFO, str(path)):
        log.info("step 1")
        log.debug("not shown")
        log.warning("careful")
    lines = path.read_text().splitlines()
    stamp = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] "
    assert re.match(stamp + r"DCHARGE INFO    step 1$", lines[0])
    assert re.match(stamp + r"DCHARGE WARNING careful$", lines[1])
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(("given", "level"), [("DEBUG", 10), ("2", 20), ("warning", 30), ("0", 40)])
def test_log_levels_as_in_deepmd(given, level):
    parser, _ = command._parser(["schema"])
    assert parser.parse_args(["schema", "-v", given]).log_level == level


def test_numbers_and_flags_of_a_system():
    argv = ["test", "-s", "a", "--pbc", "T", "t", "0", "--field", "0", "-1e-3", "-.5", "-m", "x"]
    args = command._parser(argv)[0].parse_args(argv)
    assert args.pbc == [True, True, False] and args.field == [0.0, -1e-3, -0.5] and args.model == ["x"]
