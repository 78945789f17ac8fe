"""Runs that are ended: between two steps with a checkpoint, at once, and without temporary files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from tiny import curve, input_config, same_tensors, validated

from dcharge import checkpoint
from dcharge.interrupt import tidy_end
from dcharge.train import Trainer, train

POSIX = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals of POSIX on this system")


def stopping(trainer, step):
    """The trainer, interrupted by Ctrl-C in the middle of step number `step`."""
    one = trainer.train_step

    def train_step():
        if trainer.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return one()

    trainer.train_step = train_step
    return trainer


def test_interrupt_saves(here, cubes):
    config = input_config(cubes, validated(cubes), {"training": {"ema": 0.9}})
    whole = train(config)
    shutil.move("lcurve.out", "whole.out")
    for p in here.glob("model.ckpt*"):
        p.unlink()
    with pytest.raises(KeyboardInterrupt):
        stopping(Trainer(config), 7).run()
    assert (here / "checkpoint").read_text() == "model.ckpt-7.pt\n"
    again = train(config, restart=".")
    assert same_tensors(whole.model.state_dict(), again.model.state_dict())
    assert all(np.array_equal(c, curve()[k]) for k, c in curve("whole.out").items())


def test_interrupt_while_validating(here, cubes):
    """The averaged weights that validation uses do not end up as the weights of the run."""
    trainer = Trainer(input_config(cubes, validated(cubes), {"training": {"ema": 0.9}}))

    geometry = trainer.validation_geometry

    def interrupted(index):
        signal.raise_signal(signal.SIGINT)
        return geometry(index)

    trainer.validation_geometry = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    content = checkpoint.load("model.ckpt-5.pt", checkpoint.CHECKPOINT)
    average = checkpoint.tensors(content, "ema")
    parameters = {k: v for k, v in checkpoint.tensors(content, "state").items() if k in average}
    other = stopping(Trainer(input_config(cubes, {"training": {"ema": 0.9}})), 5)
    with pytest.raises(KeyboardInterrupt):
        other.run()
    assert same_tensors(parameters, {k: p.detach() for k, p in other.model.named_parameters()})
    assert same_tensors(average, other.average.values) and not same_tensors(parameters, average)


def test_second_interrupt_ends_at_once(here, cubes):
    trainer = Trainer(input_config(cubes))
    trainer.train_step = lambda: [signal.raise_signal(signal.SIGTERM) for _ in range(2)]
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.step == 0 and not list(here.glob("model.ckpt*"))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@POSIX
def test_kill_loses_at_most_save_freq_steps(here, cubes):
    given = {"training": {"numb_steps": 10**6, "save_freq": 10, "disp_freq": 1}}
    (here / "input.json").write_text(json.dumps(input_config(cubes[:1], given)))
    call = [sys.executable, "-m", "dcharge", "train", "input.json"]
    with subprocess.Popen(call, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        end = time.monotonic() + 60
        while not (here / "model.ckpt-30.pt").exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    reached = int(np.genfromtxt("lcurve.out", names=True)["step"][-1])
    saved = checkpoint.section(checkpoint.load(checkpoint.resolve("."), checkpoint.CHECKPOINT), "run")["step"]
    assert reached >= 30 and 0 <= reached - saved <= 10
    again = train(input_config(cubes[:1], given, {"training": {"numb_steps": saved + 3}}), restart=".")
    assert again.step == saved + 3
    assert curve()["step"].tolist() == list(range(1, saved + 4))


@POSIX
@pytest.mark.parametrize("output", ["rho.cube", "rho.h5"])
def test_sigterm_leaves_no_temporary_file(here, silicon_frozen, si8, output):
    call = [sys.executable, "-m", "dcharge", "predict", str(si8), "-m", str(silicon_frozen), "--device", "cpu"]
    call += ["--grid", "200", "200", "200", "-o", output]
    with subprocess.Popen(call, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        end = time.monotonic() + 60
        while not list(here.glob(".*.part")) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        begun = [p.name for p in here.iterdir()]
        process.terminate()
        error = process.communicate(timeout=60)[1].decode()
    assert begun == [f".{output}.{process.pid}.part"]
    assert process.returncode == 143 and "ended by SIGTERM" in error and "Traceback" not in error
    assert not list(here.iterdir())


@POSIX
def test_sigterm_stays_with_those_who_have_it():
    """A program that handles or ignores SIGTERM keeps its way; afterwards all is as before."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        for own in (signal.SIG_IGN, lambda number, frame: None):
            signal.signal(signal.SIGTERM, own)
            with tidy_end():
                assert signal.getsignal(signal.SIGTERM) is own
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(SystemExit) as ended, tidy_end():
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


@POSIX
def test_sigterm_where_python_drops_exceptions(caplog):
    """HDF5 objects end in callbacks of weak references, whose exceptions Python only prints."""
    before, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, tidy_end():
            held = threading.Event()
            watch = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGTERM))
            del held
            assert watch() is None and not caplog.text.count("Traceback")
            time.sleep(60)
        assert ended.value.code == 143 and caplog.text.count("ended by SIGTERM") == 1
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and sys.unraisablehook is hook
    finally:
        signal.signal(signal.SIGTERM, before)
