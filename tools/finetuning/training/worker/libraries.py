"""The border to the training libraries: what we use of them, cast once.

Their packages carry few or partial types, so a type checker sees the shapes below and nothing
else; at run time the names are the real ones.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")
peft: Any = importlib.import_module("peft")
datasets: Any = importlib.import_module("datasets")
trl: Any = importlib.import_module("trl")

if TYPE_CHECKING:

    class TrainerCallback:
        """The methods of transformers.TrainerCallback are looked up by name."""

    class SFTTrainer:
        """The parts of trl.SFTTrainer (1.16, on transformers 5.23) that ours touches."""

        model: Any
        args: Any
        state: Any
        processing_class: Any
        aux_loss_enabled: bool

        def __init__(self, **named: Any) -> None:
            """Build the trainer."""

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """Return the loss of a batch."""

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            """Run forward and backward of one micro-batch and return its loss."""

        def train(self, resume_from_checkpoint: str | None = None) -> Any:
            """Train to the end."""

        def add_callback(self, callback: Any) -> None:
            """Add a callback."""

        def remove_callback(self, callback: Any) -> None:
            """Remove a callback by its class."""

        def _clip_grad_norm(self, model: Any) -> Any: ...
        def _get_output_dir(self, trial: Any) -> str: ...
        def _save_checkpoint(self, model: Any, trial: Any) -> None: ...
else:
    TrainerCallback = transformers.TrainerCallback
    SFTTrainer = trl.SFTTrainer
