"""The part of every trainer here that stops at broken numbers and writes whole checkpoints.

A checkpoint holds weights and tensors as safetensors and the rest as JSON: nothing that is read
back can run code. It is whole or not there, and a full disk costs the new one, never an old one.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import random
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning import runs
from finetuning.training import weights
from finetuning.training.worker import NotFiniteError

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")
numpy: Any = importlib.import_module("numpy")
safetensors: Any = importlib.import_module("safetensors.torch")

if TYPE_CHECKING:

    class _Callback:
        """The methods of transformers.TrainerCallback are looked up by name."""

    class _Trainer:
        """The parts of transformers.Trainer (5.23) that the guards build on."""

        model: Any
        args: Any
        state: Any
        optimizer: Any
        lr_scheduler: Any

        def training_step(self, *arguments: Any, **named: Any) -> Any: ...
        def is_world_process_zero(self) -> bool: ...
        def _clip_grad_norm(self, model: Any) -> Any: ...
        def _get_output_dir(self, trial: Any) -> str: ...
else:
    _Callback = transformers.TrainerCallback
    _Trainer = object

_STATE: Final = ("optimizer.", "random.", "trainer_state.json", weights.MANIFEST)
"""Files of a checkpoint that are no part of an adapter."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_is_full(error: BaseException) -> bool:
    """Tell whether a write failed for want of space (safetensors says so in words only)."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in _FULL
    found = re.search(r"os error (\d+)", str(error))
    return found is not None and int(found.group(1)) in _FULL


def write_state(folder: Path, name: str, state: Any) -> None:
    """Write nested values: tensors to ``name.safetensors``, all else to ``name.json``."""
    tensors: dict[str, Any] = {}

    def plain(value: Any) -> Any:
        if hasattr(value, "detach"):
            tensors[key := f"t{len(tensors)}"] = value.detach().cpu().contiguous()
            return {"tensor": key}
        if isinstance(value, dict):
            items = cast("dict[Any, Any]", value).items()
            return {"dict": [[inner, plain(each)] for inner, each in items]}
        if isinstance(value, list | tuple):
            parts = [plain(each) for each in cast("list[Any]", value)]
            return {"tuple": parts} if isinstance(value, tuple) else parts
        return value

    text = json.dumps(plain(state))
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    safetensors.save_file(tensors, folder / f"{name}.safetensors")


def read_state(folder: Path, name: str) -> Any:
    """Return what :func:`write_state` wrote; nothing in it can run code."""
    tensors = safetensors.load_file(folder / f"{name}.safetensors")

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(each) for each in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        ((kind, inner),) = cast("dict[str, Any]", value).items()
        if kind == "tensor":
            return tensors[inner]
        if kind == "tuple":
            return tuple(whole(each) for each in inner)
        return {key: whole(each) for key, each in inner}

    return whole(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def random_states() -> dict[str, Any]:
    """Return the states of all random generators that a training draws from."""
    name, words, *rest = numpy.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, words.tolist(), *rest),
        "cpu": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None,
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Set what :func:`random_states` returned (a GPU's only where there are as many)."""
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["cpu"])
    saved = states["cuda"]
    if saved and torch.cuda.is_available() and len(saved) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved)


def adopt(source: Path, folder: Path) -> None:
    """Give ``folder`` a checkpoint of another run, if it is undamaged (linked, not copied)."""
    target = folder / source.name
    if target.exists() or weights.fault_of(source) is not None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{source.name}-{secrets.token_hex(4)}.tmp"
    try:
        shutil.copytree(source, temporary, copy_function=_link)
        temporary.rename(target)
        weights.sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def to_resume(run_id: str, folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint; alerts say which were skipped, or that none is."""
    found, skipped = weights.newest_valid(folder)
    for name, fault in skipped.items():
        message = f"{name}: {fault}; the one before it is used"
        step = weights.step_of(Path(name))
        runs.record_alert(run_id, code="checkpoint_skipped", message=message, step=step)
    if found is None:
        message = "the run to resume has no undamaged checkpoint; training starts anew"
        runs.record_alert(run_id, code="no_checkpoint", message=message)
    return found


def copy_adapter(checkpoint: Path, target: Path) -> None:
    """Make a whole folder of the adapter that a checkpoint holds, and its tokenizer."""
    with weights.whole_folder(target) as folder:
        for path in checkpoint.iterdir():
            if not path.name.startswith(_STATE):
                shutil.copy2(path, folder)


def no_alert(code: str, message: str, step: int | None = None) -> None:
    """Take an alert of a training that nobody follows."""


class Guarded(_Trainer):
    """Mixed into a trainer: it stops at what is not finite and writes whole checkpoints.

    Attributes:
        trained: The weights that are trained.
        alert: Where alerts go.
        kept_step: Step of the checkpoint that must stay, whatever its age.
    """

    trained: list[Any]
    alert: Callable[..., None] = staticmethod(no_alert)
    kept_step: int | None = None
    _on_cpu: bool = True
    _save_root: str | None = None
    _last_bytes: int | None = None

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """Run one micro-batch and stop if its loss is not finite."""
        loss = super().training_step(*arguments, **named)
        if not torch.isfinite(loss).all():
            raise NotFiniteError("loss", self.state.global_step + 1)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        if self._on_cpu:
            norm = torch.nn.utils.clip_grad_norm_(self.trained, self.args.max_grad_norm)
        else:
            norm = super()._clip_grad_norm(model)
        if not torch.isfinite(torch.as_tensor(norm)):
            raise NotFiniteError("gradient norm", self.state.global_step + 1)
        return norm

    def weights_are_finite(self) -> bool:
        """Tell whether every trained weight is a finite number."""
        norms = torch._foreach_norm([weight.detach() for weight in self.trained])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def checkpoint_bytes(self) -> int:
        """Return what a checkpoint takes: the last one's size, or weights and Adam's moments."""
        if self._last_bytes is not None:
            return self._last_bytes
        return weights.checkpoint_bytes(sum(weight.numel() for weight in self.trained))

    def _get_output_dir(self, trial: Any) -> str:
        return self._save_root or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        if not self.is_world_process_zero():
            return
        free, need = weights.free_bytes(folder), self.checkpoint_bytes()
        if free < need:
            self._not_saved(f"{free / 1e6:.1f} MB are free and it needs {need / 1e6:.1f} MB")
            return
        try:
            self._write_checkpoint(folder / f"checkpoint-{self.state.global_step}", model, trial)
        except Exception as error:
            if not disk_is_full(error):
                raise
            self._not_saved(f"the disk is full ({type(error).__name__})")
            return
        weights.keep_newest(folder, self.args.save_total_limit, self.kept_step)

    def save_now(self) -> None:
        """Write a checkpoint of the step that is complete."""
        self._save_checkpoint(self.model, None)

    def _write_checkpoint(self, target: Path, model: Any, trial: Any) -> None:
        with weights.whole_folder(target) as temporary:
            self._save_root = str(temporary.parent)
            try:
                # TRL's own method would write a model card first
                transformers.Trainer._save_checkpoint(self, model, trial)
            finally:
                self._save_root = None
            # the settings as a pickle: nothing reads it, and nobody should have to trust it
            (temporary / "training_args.bin").unlink(missing_ok=True)
        self._last_bytes = weights.folder_bytes(target)

    def _not_saved(self, why: str) -> None:
        found, _ = weights.newest_valid(Path(self.args.output_dir))
        kept = "there is no older one" if found is None else f"{found.name} is kept"
        step = self.state.global_step
        message = f"checkpoint-{step} was not written: {why}; {kept}; training goes on"
        self.alert("checkpoint_not_saved", message, step)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        states = {each: getattr(self, each).state_dict() for each in ("optimizer", "lr_scheduler")}
        write_state(Path(output_dir), "optimizer", states)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        states = read_state(Path(checkpoint), "optimizer")
        for name, state in states.items():
            getattr(self, name).load_state_dict(state)

    def _save_rng_state(self, output_dir: str) -> None:
        write_state(Path(output_dir), "random", random_states())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            set_random_states(read_state(Path(checkpoint), "random"))


class GuardWeights(_Callback):
    """Stops before a broken update can reach a checkpoint."""

    def __init__(self, trainer: Guarded) -> None:
        """Watch the weights of ``trainer``."""
        self._trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Check the weights after each update."""
        if not self._trainer.weights_are_finite():
            raise NotFiniteError("adapter", state.global_step + 1)
