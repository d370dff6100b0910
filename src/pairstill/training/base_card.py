"""The model card of a base."""

from __future__ import annotations

from dataclasses import asdict

from pairstill import __version__
from pairstill.training.settings import TrainingSettings
from pairstill.training.step_loop import StepResult


def base_card(made: str, texts: int, settings: TrainingSettings, result: StepResult) -> str:
    """Markdown that says what a base was made of and how far it got.

    Args:
        made: How, as the start of a sentence.
        texts: How many it read.
        settings: Of the training.
        result: What it came to.
    """
    rows = [f"| {name} | {result.before[name]:.4f} | {value:.4f} |" for name, value in result.best.items()]
    return "\n".join(
        [
            "---", "library_name: transformers", "tags: [pairstill]", "---", "", "# A base for pair scorers", "",
            f"{made} on {texts:,} texts, {result.sequences:,} sequences presented, {result.seconds:,.0f} s. Made with Pairstill "
            f"{__version__}; `pairstill teach` and `pairstill distill` take this folder as `--base`.", "",
            "| held out | before | after |", "| --- | --- | --- |", *rows, "",
            "Settings: " + ", ".join(f"{key} {value}" for key, value in asdict(settings).items()), "",
        ]
    )  # fmt: skip
