"""TRL's SFTTrainer with a cheaper loss on CPUs, guards against NaN and whole checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from finetuning.training import checkpoints
from finetuning.training.worker.libraries import SFTTrainer, TrainerCallback, torch, transformers
from finetuning.training.worker.outcomes import NotFiniteError
from finetuning.training.worker.rows import IGNORED

_OWN_LOGITS: Final = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)
"""Settings of models whose logits are more than the LM head's product (trl 1.16 utils)."""


class LoraTrainer(SFTTrainer):
    """SFT of a LoRA adapter that stops at the first number that is not finite.

    On a CPU the loss scores the labelled positions only and leaves out TRL's entropy and accuracy
    (70 % of the operator time at TRL's defaults, measured 2026-11; training.md#time). It is
    the same mean cross-entropy; elsewhere TRL's own fused loss runs.
    """

    _save_root: str | None = None

    def __init__(self, **named: Any) -> None:
        """Build TRL's trainer from its own arguments and look up the trained weights."""
        super().__init__(**named)
        self.trained: list[Any] = [w for w in self.model.parameters() if w.requires_grad]
        self._base = self.model.get_base_model()
        text_config = self._base.config.get_text_config()
        plain = all(getattr(text_config, name, None) is None for name in _OWN_LOGITS)
        self._on_cpu = all(weight.device.type in {"cpu", "mps"} for weight in self.trained)
        self._labelled_only = plain and self._on_cpu and not self.aux_loss_enabled
        if self._on_cpu:
            self._walk_modules_less()

    def _walk_modules_less(self) -> None:
        """Spare tiny models two walks over all modules per step (a fifth of the demo's time)."""
        model, switch = self.model, self.model.train

        def train(mode: bool = True) -> Any:
            return model if model.training == mode else switch(mode)

        def zero_grad(set_to_none: bool = True) -> None:
            for weight in self.trained:
                weight.grad = None

        model.train, model.zero_grad = train, zero_grad

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean cross-entropy of the labelled positions."""
        if not self._labelled_only or return_outputs:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        hidden = self._base.base_model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        ).last_hidden_state
        labels = inputs["labels"][:, 1:]
        marked = labels != IGNORED
        logits = self._base.get_output_embeddings()(hidden[:, :-1][marked]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[marked], reduction="sum")
        count = marked.sum() if num_items_in_batch is None else num_items_in_batch
        return loss / torch.as_tensor(count).clamp(min=1)

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

    def _get_output_dir(self, trial: Any) -> str:
        return self._save_root or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        target = folder / f"checkpoint-{self.state.global_step}"
        with checkpoints.whole_folder(target) as temporary:
            self._save_root = str(temporary.parent)
            try:
                # TRL's own method would write a model card first
                transformers.Trainer._save_checkpoint(self, model, trial)
            finally:
                self._save_root = None
            # the settings as a pickle: nothing reads it, and nobody should have to trust it
            (temporary / "training_args.bin").unlink(missing_ok=True)
        checkpoints.keep_newest(folder, self.args.save_total_limit)


class GuardWeights(TrainerCallback):
    """Stops before a broken update can reach a checkpoint."""

    def __init__(self, trainer: LoraTrainer) -> None:
        """Watch the weights of ``trainer``."""
        self._trainer = trainer

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Check the weights after each update."""
        if not self._trainer.weights_are_finite():
            raise NotFiniteError("adapter", state.global_step + 1)
