"""The options of training, which several techniques share."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST

SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How weights are learnt: AdamW, on batches of texts of like lengths.

    ``epochs`` is how often each text is seen, ``steps`` the most batches that are learnt from
    (None: as many as the epochs have). The learning rate rises linearly over the share ``warmup``
    of the steps and then falls by ``schedule``. ``validation`` is the share of the texts that is
    kept apart to see after each epoch how good the weights are: the best stay, and after
    ``patience`` epochs without better ones training ends (None: never before its time). 0 keeps
    none apart: the last weights stay. ``precision`` "auto" is bfloat16 autocast where the processor
    has it, else FP32. ``freeze_embeddings`` leaves the embedding tables as they are. Texts are cut
    at ``seq_len`` tokens. Every ``checkpoint_s`` seconds all is written down, so that a killed run
    can go on.
    """

    epochs: int = 3
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-4
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    validation: float = 0.1
    patience: int | None = None
    precision: str = "auto"
    freeze_embeddings: bool = False
    seq_len: int = 128
    seed: int = 0
    checkpoint_s: float = 60.0

    @classmethod
    def read(
        cls, step: Table, default: Training | None = None, *, to_the_end: bool = False
    ) -> Training:
        """Read the sub-table ``training`` of a step's table; ``default`` stands for what it lacks.

        Raises InputError with the dotted key for what is wrong, and for ``patience`` where the step
        trains ``to_the_end``.
        """
        d = default or cls()
        table = step.optional_table("training")
        if table is None:
            return d
        training = cls(
            epochs=table.integer("epochs", d.epochs, high=10_000),
            steps=table.integer("steps", d.steps, high=MOST),
            batch_size=table.integer("batch_size", d.batch_size, high=4096),
            learning_rate=table.number("learning_rate", d.learning_rate, low=1e-8, high=10.0),
            schedule=table.choice("schedule", SCHEDULES, d.schedule),
            warmup=table.number("warmup", d.warmup, low=0.0, high=0.9),
            weight_decay=table.number("weight_decay", d.weight_decay, low=0.0, high=1.0),
            max_grad_norm=table.number("max_grad_norm", d.max_grad_norm, low=1e-6, high=1e6),
            validation=table.number("validation", d.validation, low=0.0, high=0.5),
            patience=table.integer("patience", d.patience, high=10_000),
            precision=table.choice("precision", PRECISIONS, d.precision),
            freeze_embeddings=table.get("freeze_embeddings", bool, d.freeze_embeddings),
            seq_len=table.integer("seq_len", d.seq_len, low=4, high=65_536),
            seed=table.integer("seed", d.seed, low=0, high=2**31),
            checkpoint_s=table.number("checkpoint_s", d.checkpoint_s, low=0.0, high=1e6),
        )
        if to_the_end and training.patience is not None:
            raise table.wrong("patience", "says nothing here: the last weights stay")
        if training.patience is not None and training.validation == 0:
            raise table.wrong("patience", "needs texts to validate on, but validation is 0")
        table.close()
        return training
