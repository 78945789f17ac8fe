"""Training: batches of sampled points, loss, schedule, validation, checkpoints. `dcharge train`."""

from __future__ import annotations

import json
import math
import os
import re
import time
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from . import __version__, checkpoint
from .average import Average
from .batch import Batch
from .dataset import CALIBRATION_FRAMES, Samples, training_and_validation, training_frames, warn_of_data
from .device import choose_device
from .errors import InputError, log
from .interrupt import Interrupt
from .io.replacing import replacing
from .loss import make_loss
from .metrics import Errors
from .minibatch import CHUNK, Batches, GeometryCache, whole_frames
from .models import make_model
from .pool import Pool
from .resampling import Resampling
from .schedule import Schedule, make_optimizer

# a count further off than this is no bias to correct but a model that has not learned yet
LARGEST_SHARE = 0.01
# losses kept on the device before they are looked at: a look waits for all work that a GPU still has to do
LOSSES = 100
COLUMNS = ("step", "nmae_val", "nmae_trn", "rmse_val", "rmse_trn", "lr", "seconds")


class Trainer:
    """One training run, described by a normalised input."""

    def __init__(self, config: dict, restart=None, init_model=None):
        self.config, training = config, config["training"]
        self.device = choose_device(training["device"])
        self.folder = Path(".")
        self.prefix = training["save_ckpt"]
        for key in ("save_ckpt", "disp_file"):
            if not (self.folder / training[key]).parent.is_dir():
                raise InputError(f"training/{key}: there is no folder {(self.folder / training[key]).parent}")
        self.model = make_model(config["model"], training["seed"]).to(self.device)
        content = None
        if restart or init_model:
            content = checkpoint.load(checkpoint.resolve(restart or init_model), checkpoint.CHECKPOINT, self.device)
            self._check_same(content, restart or init_model, "model")
            if restart:
                self._check_same(content, restart, "optimizer", ["type"])
                self._tell_changes(content, restart)
            state = checkpoint.tensors(content, "state")
            if init_model:  # the averaged weights are the better start
                state |= checkpoint.tensors(content, "ema")
            checkpoint.fill(self.model, state, restart or init_model)

        samples, validation, calibration = training_and_validation(config)
        fresh = training["sampler"]["type"] == "fresh"
        whole = not fresh or len(samples.structures) < CALIBRATION_FRAMES
        self.species = warn_of_data(self.model, samples.structures, whole)
        if content is not None and self.species is not None:  # what the weights knew before they still know
            earlier = checkpoint.section(content, "run").get("species")
            self.species = None if earlier is None else sorted({*self.species, *earlier})
        batch = samples.batch(self.model.type_map, self.device)
        if content is None:
            calibration = calibration.shuffled(training["seed"]).to(self.device)
            self.model.calibrate(batch, calibration.points, calibration.frame, calibration.target, calibration.weight)
        self.resampling = self.pool = None
        if training["sampler"]["type"] == "independent":
            self.resampling = Resampling(config, self.model)
            samples = self.resampling.first(config, content if restart else None, restart)
            validation = validation if self.resampling.held is None else self.resampling.held
        # points held out of those that `independent` chose are few and integrate to nothing
        self.counts_electrons = self.resampling is None or self.resampling.held is None
        self.validation = None if validation is None else validation.to(self.device)
        self.batch, self.validation_geometry = batch, None
        if fresh:
            self.pool = Pool(training_frames(config), config)
            self.samples, self.geometry = samples.to(self.device), None
            log.info(f"training data: {self.pool}")
        else:
            self._train_on(samples)
        if self.validation is not None:
            self.validation_batch = self.validation.batch(self.model.type_map, self.device)
            left = training["cache_gb"] * 1e9 - (0 if self.geometry is None else self.geometry.nbytes)
            self.validation_geometry = GeometryCache(self.model, self.validation, self.validation_batch, left)

        self.schedule = Schedule(config["learning_rate"], training["numb_steps"])
        self.loss = make_loss(config["loss"])
        self.optimizer = make_optimizer(config["optimizer"], self.model.parameters(), self.schedule.rate(0))
        self.largest_norm = training["gradient_max_norm"]
        self.average = Average(self.model, training["ema"]) if training["ema"] else None
        self.step, self.best, self.elapsed = 0, math.inf, 0.0
        self.losses, self.last = [], None  # since the last check; predicted, target and weight of the last step
        if restart:
            self._resume(content)
        elif init_model:
            step = checkpoint.section(content, "run")["step"]
            log.info(f"weights of {init_model} (step {step}); the run starts anew")
        self._tell_baseline()

    def _train_on(self, samples: Samples) -> None:
        """Take these training points: their cache, and batches of them."""
        training, data = self.config["training"], self.config["training"]["training_data"]
        self.geometry = None  # frees the memory of the points before
        used = 0 if self.validation_geometry is None else self.validation_geometry.nbytes
        self.samples = samples.to(self.device)
        self.geometry = GeometryCache(self.model, self.samples, self.batch, training["cache_gb"] * 1e9 - used)
        self.batches = Batches(self.samples, data["batch_size"], data["frames_per_batch"], training["seed"])
        # a family that encodes its atoms does so for the frames of a step alone
        self.encodes_few = self.model.encodes_atoms and 0 < self.batches.frames < self.batch.n_frames

    def _check_same(self, content: dict, path, section: str, keys=None) -> None:
        saved, mine = checkpoint.section(content, "config")[section], self.config[section]
        for key in keys or sorted(set(saved) | set(mine)):
            a, b, place = saved.get(key), mine.get(key), f"{section}/{key}"
            while isinstance(a, dict) and isinstance(b, dict) and a != b:  # down to the key that differs
                inner = min(k for k in set(a) | set(b) if a.get(k) != b.get(k))
                a, b, place = a.get(inner), b.get(inner), f"{place}/{inner}"
            if a != b:
                raise InputError(f"{path}: {place} is {a} there and {b} in the input")

    def _tell_changes(self, content: dict, path) -> None:
        """Warn of what makes the restarted curve another one: data, sampler, loss, learning rate."""
        saved, changed = checkpoint.section(content, "config"), []
        harmless = (
            "numb_steps",
            "max_minutes",
            "disp_file",
            "disp_freq",
            "save_freq",
            "save_ckpt",
            "max_ckpt_keep",
            "device",
        )
        for section in ("loss", "learning_rate", "optimizer", "training"):
            for key in sorted(set(saved[section]) | set(self.config[section])):
                if key not in harmless and saved[section].get(key) != self.config[section].get(key):
                    changed.append(f"{section}/{key}")
        if changed:
            log.warning(f"{path}: restart with another {', '.join(changed)} than the run it continues")

    def _resume(self, content: dict) -> None:
        run = checkpoint.section(content, "run")
        self.step, self.elapsed = run["step"], run["elapsed"]
        self.best = math.inf if run["best"] is None else run["best"]
        self.schedule.state = run["schedule"]
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average is not None and checkpoint.tensors(content, "ema"):
            self.average.values = checkpoint.tensors(content, "ema")
            self.average.count = run["ema_count"]
        log.info(f"restart from step {self.step}")

    def content(self) -> dict:
        """What a checkpoint holds."""
        run = {
            "step": self.step,
            "elapsed": self.elapsed,
            "species": self.species,
            "best": None if math.isinf(self.best) else self.best,
            "schedule": self.schedule.state,
            "ema_count": self.average.count if self.average else 0,
        }
        out = {
            "format": checkpoint.CHECKPOINT,
            "version": checkpoint.VERSION,
            "config": json.dumps(self.config),
            "run": json.dumps(run),
            "dcharge": __version__,
            "optimizer": self.optimizer.state_dict(),
        }
        out |= {f"state/{k}": v for k, v in self.model.state_dict().items()}
        if self.average:
            out |= {f"ema/{k}": v for k, v in self.average.values.items()}
        if self.resampling:
            out |= self.resampling.content()
        return out

    def save(self) -> None:
        """Write model.ckpt-<step>.pt, point `checkpoint` to it and drop the oldest ones."""
        self.check()
        name = f"{self.prefix}-{self.step}.pt"
        checkpoint.save(self.folder / name, self.content())
        with replacing(self.folder / "checkpoint") as temporary:
            Path(temporary).write_text(name + "\n")
        place = (self.folder / name).parent
        pattern = re.compile(re.escape(Path(self.prefix).name) + r"-(\d+)\.pt")
        steps = sorted(int(found[1]) for p in place.iterdir() if (found := pattern.fullmatch(p.name)))
        # files of later steps belong to an earlier run: they must not push out the new ones
        for step in [s for s in steps if s <= self.step][: -self.config["training"]["max_ckpt_keep"]]:
            (self.folder / f"{self.prefix}-{step}.pt").unlink(missing_ok=True)

    def position(self) -> int:
        """Where in the schedule the run is: the step, or further on where max_minutes will end it before numb_steps."""
        training = self.config["training"]
        if not training["max_minutes"]:
            return self.step
        return max(self.step, int(training["numb_steps"] * self.elapsed / (60 * training["max_minutes"])))

    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.position() >= self.config["training"]["numb_steps"] or self.schedule.finished()

    def batch_loss(self, index: Tensor) -> tuple[Tensor, ...]:
        """Loss [] of the points `index` [n] of the samples; predicted and target [n, 1] (e/Angstrom^3), weight [n]."""
        s, batch = self.samples, self.batch
        frame = s.frame[index]
        if self.encodes_few:
            batch, frame = needed(batch, frame)
        predicted = self.model.decode(self.model.encode(batch), s.points[index], frame, self.geometry(index))
        return self._with_loss(predicted, s.target[index], s.weight[index])

    def fresh_loss(self, samples: Samples) -> tuple[Tensor, ...]:
        """The same of all points of `samples`, which are used once."""
        s, batch = samples.to(self.device), samples.batch(self.model.type_map, self.device)
        predicted = self.model.decode(self.model.encode(batch), s.points, s.frame)
        return self._with_loss(predicted, s.target, s.weight)

    def _with_loss(self, predicted: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        target = target.to(predicted.dtype)
        return self.loss(predicted, target, weight.to(predicted.dtype)), predicted, target, weight

    def train_step(self) -> None:
        """One optimiser step. In Deep Charge with all moments cached nothing in it waits for the device."""
        rate = self.schedule.rate(self.position())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        try:
            if self.pool is not None:
                loss, *last = self.fresh_loss(self.pool(self.step))
            else:
                loss, *last = self.batch_loss(self.batches(self.step))
        except (ValueError, RuntimeError):
            self.check()  # an op that refuses nan: the loss of an earlier step tells the cause
            raise
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.largest_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.largest_norm)
        self.optimizer.step()
        if self.average:
            self.average.update(self.model)
        self.step += 1
        self.last = [t.detach() for t in last]
        self.losses.append(loss.detach())
        if len(self.losses) == LOSSES:
            self.check()

    def check(self) -> None:
        """Wait for the steps done so far; InputError where the loss of one was not a finite number."""
        losses = torch.stack(self.losses).tolist() if self.losses else []
        self.losses.clear()
        for step, loss in enumerate(losses, self.step - len(losses)):
            if not math.isfinite(loss):
                raise InputError(f"training: the loss is {loss} at step {step}; lower learning_rate/start_lr")

    def trained(self) -> Errors:
        """Errors of the last step's batch, before that step."""
        errors = Errors()
        errors.add(*(t.cpu().numpy() for t in self.last), integrable=False)
        return errors

    @torch.no_grad()
    def validate(self) -> Errors | None:
        """Errors on the validation points, with averaged weights where there are any."""
        s = self.validation
        if s is None:
            return None
        errors = Errors()
        with self.average.applied(self.model) if self.average else nullcontext():
            for frames, parts in whole_frames(s.frame, CHUNK):
                cache = self.model.encode(self.validation_batch.select(frames))
                for index in parts:
                    frame = torch.searchsorted(frames, s.frame[index])
                    rho = self.model.decode(cache, s.points[index], frame, self.validation_geometry(index))
                    errors.add(rho.cpu(), s.target[index].cpu(), s.weight[index].cpu().numpy(), integrable=False)
        return errors

    def _counted(self, validated: Errors) -> dict:
        """A checkpoint whose baseline is scaled so that the electrons of the validation points come out right.

        On frames the weights have not seen, the network's part no longer integrates to what the training frames taught
        it (water: + 0.15 %). Why it errs to one side is not understood; the validation frames tell how much.
        """
        content = self.content()
        if not self.counts_electrons:
            return content
        share = validated.integral_error / self.baseline_sum if self.baseline_sum else math.inf
        if abs(share) < LARGEST_SHARE:
            content["state/baseline.coefficients"] = content["state/baseline.coefficients"] * (1.0 - share)
        return content

    def _report(self, curve) -> None:
        self.check()
        validated = self.validate()
        nan = float("nan")
        t = self.trained().result()
        v = validated.result() if validated else {}
        # undefined (no validation; a batch without any density) is nan in the curve
        t, v = ({k: nan if r.get(k) is None else r[k] for k in ("nmae_percent", "rmse")} for r in (t, v))
        rate = self.optimizer.param_groups[0]["lr"]
        row = (v["nmae_percent"], t["nmae_percent"], v["rmse"], t["rmse"], rate, self.elapsed)
        curve.write(f"{self.step:10d}" + "".join(f" {x:12.5e}" for x in row) + "\n")
        curve.flush()
        position = self.position()
        left = self.elapsed / max(position, 1) * (self.config["training"]["numb_steps"] - position)
        log.info(
            f"batch {self.step}: trn: nmae = {t['nmae_percent']:.3f} %, rmse = {t['rmse']:.2e}, "
            + (f"val: nmae = {v['nmae_percent']:.3f} %, rmse = {v['rmse']:.2e}, " if validated else "")
            + f"lr = {rate:.2e}, total wall time = {self.elapsed:.1f} s, eta = {left:.0f} s"
        )
        if validated:
            per_epoch = (self.pool or self.batches).per_epoch
            self.schedule.observe(v["nmae_percent"], self.config["training"]["disp_freq"] / per_epoch)
            if v["nmae_percent"] < self.best:
                self.best = v["nmae_percent"]
                checkpoint.save(self.folder / f"{self.prefix}.best.pt", self._counted(validated))

    def _set_aside(self, *names) -> None:
        """Rename files of an earlier run to <name>.old and say so."""
        found = [n for n in names if (self.folder / n).is_file()]
        for name in found:
            os.replace(self.folder / name, self.folder / f"{name}.old")
        if found:
            log.warning(f"an earlier run lies here (continue it with -r): {', '.join(found)} kept as *.old")

    @torch.no_grad()
    def _tell_baseline(self) -> None:
        """Log the error of the baseline alone, on the validation (else the training) points."""
        self.baseline_sum = 0.0
        if self.model.baseline is None:
            return
        name = "training" if self.validation is None else "validation"
        s, batch, geometry = self.samples, self.batch, self.geometry
        if self.validation is not None:
            s, batch, geometry = self.validation, self.validation_batch, self.validation_geometry
        elif self.pool is not None:  # no point is there yet
            return
        errors = Errors()
        for start in range(0, len(s), CHUNK):
            index = torch.arange(start, min(start + CHUNK, len(s)), device=self.device)
            rho = self.model.baseline_density(batch, s.points[index], s.frame[index], geometry(index))
            errors.add(rho.cpu(), s.target[index].cpu(), s.weight[index].cpu().numpy(), integrable=False)
        self.baseline_sum = errors.reference + errors.integral_error
        nmae = errors.result()["nmae_percent"]
        log.info(f"baseline alone: {name} nmae = {float('nan') if nmae is None else nmae:.3f} %")

    def run(self) -> None:
        """Train to numb_steps, or until the schedule ends it; an interrupt writes a checkpoint first."""
        training = self.config["training"]
        if self.step == 0:  # the models of an earlier run in this folder are not those of this one
            self._set_aside(f"{self.prefix}.best.pt", "checkpoint", training["disp_file"])
        log.info(f"model: {sum(p.numel() for p in self.model.parameters())} parameters, {self.model.type_map}")
        if self.step and self.finished():
            log.warning(f"step {self.step}: this run has ended already; more: raise training/numb_steps or max_minutes")
        else:
            log.info(f"start to train {training['numb_steps']} steps")
        with open_curve(self.folder / training["disp_file"], self.step) as curve:
            started = time.perf_counter() - self.elapsed
            saved = self.step
            with Interrupt() as interrupt, closing(self.pool) if self.pool else nullcontext():
                while not self.finished() and not interrupt.asked:
                    if self.resampling and self.resampling.due(self.position()):
                        self._train_on(self.resampling.draw(self.position()))
                    self.train_step()
                    self.elapsed = time.perf_counter() - started
                    if self.step % training["disp_freq"] == 0 or self.finished():
                        self._report(curve)
                    if self.step % training["save_freq"] == 0:
                        self.save()
                        saved = self.step
                if self.pool:
                    self.pool.tell(self.elapsed)
            if interrupt.asked:
                if self.step > saved or not (self.folder / "checkpoint").exists():
                    self.save()
                log.warning(f"interrupted; step {self.step} is saved: continue with -r {self.prefix}-{self.step}.pt")
                raise KeyboardInterrupt
            if self.step < training["numb_steps"]:
                reason = "stop_lr" if self.schedule.finished() else "max_minutes"
                log.warning(f"ended at step {self.step} of {training['numb_steps']}: {reason} reached")
            if self.step > saved or not (self.folder / "checkpoint").exists():
                self.save()
        best = "" if math.isinf(self.best) else f"; best validation nmae {self.best:.3f} %: {self.prefix}.best.pt"
        log.info(f"trained model saved: {self.prefix}-{self.step}.pt{best}")


def needed(batch: Batch, frame: Tensor) -> tuple[Batch, Tensor]:
    """The structures that the frame numbers `frame` [n] name, and these numbers counted anew."""
    chosen, frame = torch.unique(frame, return_inverse=True)
    return batch.select(chosen), frame


def open_curve(path: Path, step: int):
    """Learning curve file, appended to on restart after dropping rows beyond `step`; readable by numpy.genfromtxt."""
    header = "#" + f"{COLUMNS[0]:>9s}" + "".join(f" {name:>12s}" for name in COLUMNS[1:]) + "\n"
    rows = []
    if step and path.exists():
        rows = [r for r in path.read_text().splitlines(True) if not r.startswith("#") and r.endswith("\n")]
        rows = [r for r in rows if len(r.split()) == len(COLUMNS) and int(r.split()[0]) <= step]
    with replacing(path) as temporary:
        Path(temporary).write_text(header + "".join(rows))
    return open(path, "a")


def train(config: dict, restart=None, init_model=None, output="out.json") -> Trainer:
    """Train as a normalised input says; writes out.json, lcurve.out and checkpoints into the current folder."""
    trainer = Trainer(config, restart, init_model)
    if output:
        with replacing(output) as temporary:
            Path(temporary).write_text(json.dumps(config, indent=2) + os.linesep)
    trainer.run()
    return trainer
