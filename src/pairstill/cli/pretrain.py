"""`pairstill pretrain`: a language model of the user's own texts, as a base for teachers and students."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairstill.cli.flags import writable

WORK = "pretraining"
VOCABULARY = 8000


def pretrain(
    sources: Annotated[
        list[Path], typer.Argument(help="Text files (.txt, one text a line), tables (with --column), or tuple sets.")
    ],
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder of the base, which --base of teach and distill takes.")
    ],
    column: Annotated[list[str] | None, typer.Option(help="Column of a table; each cell is a text.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Go on with this BERT and its vocabulary; random weights if left out.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="tiny (the default), mini, small, medium, or LAYERSxHIDDENxHEADS such as 3x192x12; of tri-letter words also twinbert."
        ),
    ] = None,
    vocabulary: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Word pieces of an own vocabulary, or whole words to guess; {VOCABULARY} if left out."
        ),
    ] = None,
    words: Annotated[
        str,
        typer.Option(help="wordpiece, or tri-letter: a tower for TwinBERT, which guesses --vocabulary whole words."),
    ] = "wordpiece",
    tri_letter_set: Annotated[
        list[str] | None,
        typer.Option(
            help="One setting of tri-letters: unicode=true, letters=20, minimum_count=2 or vocabulary_size=49292."
        ),
    ] = None,
    cased: Annotated[bool, typer.Option("--cased", help="Keep case and accents in an own vocabulary.")] = False,
    masking: Annotated[
        str | None, typer.Option(help="words (the default) or tokens: what is masked as a whole.")
    ] = None,
    mask_share: Annotated[float, typer.Option(help="Share of them that is masked.")] = 0.15,
    max_length: Annotated[int, typer.Option(help="Most tokens of a sequence, and positions of a new model.")] = 128,
    texts_per_sequence: Annotated[
        int | None,
        typer.Option(
            min=1, help="Texts joined as the texts of a tuple are; 2 suits bases of cross-encoders; 1 if left out."
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the texts.")] = 3.0,
    sequences: Annotated[
        int | None, typer.Option(min=1, help="Sequences presented in all; wins over --epochs.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step.")] = 64,
    learning_rate: Annotated[
        float | None, typer.Option(help="AdamW's largest rate; 5e-4 if left out, 1e-4 with --base.")
    ] = None,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Dropout of the transformer.")] = 0.0,
    held_out: Annotated[float, typer.Option(help="Share of the texts to measure with, 5,000 texts at most.")] = 0.02,
    looks: Annotated[int, typer.Option(min=1, help="How often to measure.")] = 10,
    patience: Annotated[int | None, typer.Option(help="Stop after so many looks without a better value.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, masks, the order and what is held out.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    checkpoint_every_s: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 60.0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Pre-train a BERT by masked language modelling on plain texts; interrupted, the same command resumes."""
    from pairstill.cli.flags import refuse_flags
    from pairstill.cli.pretrain_words import pretrain_words, tri_letter_config
    from pairstill.cli.progress import progress_bar
    from pairstill.cli.texts import presented, refuse_other_base, said_texts
    from pairstill.errors import InputError
    from pairstill.tuples.read_texts import read_texts

    if masking not in (None, "words", "tokens"):
        raise InputError(f"--masking is '{masking}'", expected="words or tokens")
    if words not in ("wordpiece", "tri-letter"):
        raise InputError(f"--words is '{words}'", expected="wordpiece or tri-letter")
    if words == "tri-letter":
        refuse_flags(
            {"--base": base, "--cased": cased, "--masking": masking, "--texts-per-sequence": texts_per_sequence},
            "a tower over tri-letter words reads one text, and masks whole words",
        )
        tri_letters = tri_letter_config(tri_letter_set or ())
    else:
        refuse_flags({"--tri-letter-set": tri_letter_set}, "--words is wordpiece")
    if base is not None:
        refuse_flags({"--shape": shape, "--vocabulary": vocabulary, "--cased": cased}, "--base brings its own")
    refuse_other_base(out, WORK)
    read = read_texts(sources, column or ())

    import torch

    from pairstill.machine import resolve_precision, set_threads, use_huge_pages
    from pairstill.students.base_folder import save_base, wrap_tokenizer
    from pairstill.students.encoders.language_model import load_language_model, new_language_model
    from pairstill.students.encoders.pretrained import check_max_lengths, load_tokenizer
    from pairstill.students.encoders.shape import Shape
    from pairstill.students.encoders.tri_letter import tri_letter_shape
    from pairstill.tokens.wordpiece import train_wordpiece
    from pairstill.training.base_card import base_card
    from pairstill.training.masked_language_modelling import MaskedLanguageModelling
    from pairstill.training.masking import Masking
    from pairstill.training.settings import TrainingSettings
    from pairstill.training.step_loop import fit_steps
    from pairstill.training.text_batches import split_batches

    size = shape or "tiny"
    (tri_letter_shape if words == "tri-letter" else Shape.parse)(size)
    set_threads(threads)
    use_huge_pages()
    precision = resolve_precision(precision)

    def settings_for(per_pass: int) -> TrainingSettings:
        total = presented(epochs, sequences, per_pass)
        usual = 5e-4 if base is None else 1e-4
        return TrainingSettings(
            pairs=total, batch_size=batch_size, learning_rate=usual if learning_rate is None else learning_rate, precision=precision,
            seed=seed, patience=patience, checkpoint_every_s=checkpoint_every_s, evaluate_every=max(batch_size, total // looks),
        )  # fmt: skip

    if words == "tri-letter":
        pretrain_words(
            read.texts, read.blank, out, out / WORK, shape=size, words=vocabulary or VOCABULARY, mask_share=mask_share,
            max_length=max_length, dropout=dropout, held_out_share=held_out, settings_for=settings_for, tri_letters=tri_letters,
        )  # fmt: skip
        return
    if base is None:
        tokenizer = wrap_tokenizer(
            train_wordpiece(read.texts, vocabulary or VOCABULARY, lowercase=not cased), max_length
        )
    else:
        tokenizer = load_tokenizer(base)
    masks = Masking.of_tokenizer(tokenizer, whole_words=masking != "tokens", share=mask_share)
    batches, held = split_batches(
        read.texts, tokenizer, max_length, held_out, texts_per_sequence=texts_per_sequence or 1, seed=seed
    )
    settings = settings_for(batches.per_pass)
    torch.manual_seed(seed)
    if base is None:
        model = new_language_model(
            size, len(tokenizer), positions=max_length, padding=tokenizer.pad_token_id, dropout=dropout
        )
    else:
        model = load_language_model(base, dropout)
    check_max_lengths(model.encoder.config, [max_length], 1)
    print(said_texts(read.texts, read.blank, batches, held))
    with progress_bar("Pre-training", "sequences") as progress:
        result = fit_steps(
            MaskedLanguageModelling(model, batches, held, masks, settings), settings, out / WORK, progress=progress
        )
    card = base_card(
        "Pre-trained by masked language modelling" + (f", from {base}" if base else ""),
        len(read.texts),
        settings,
        result,
    )
    save_base(out, model.encoder, model.tensors(), "BertForMaskedLM", tokenizer, card)
    print(
        f"base: {out}   {len(tokenizer):,} word pieces, held-out perplexity {result.before['perplexity']:,.1f} -> "
        f"{result.best['perplexity']:,.2f}, accuracy {result.best['accuracy']:.3f}, {result.seconds:,.0f} s"
    )
