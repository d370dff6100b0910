"""Late interaction as sentence-transformers has it: the modules of a `MultiVectorEncoder` around a ColBERT."""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pairstill.errors import InputError
from pairstill.export.modules import FIX, Module, dense, read_dense, read_object
from pairstill.students.dual_encoder import DualEncoder

MARKERS = ("[unused0]", "[unused1]")
"""What ColBERT puts after [CLS] of a query and of a document; a prompt, there."""
TOKENS = "token_embeddings"


def has_fixed_masks(student: DualEncoder) -> bool:
    """Whether a fixed number of [MASK] tokens follows every query.

    The library can only fill up to a length; a tokenizer of the queries' own puts them there.
    """
    return student.name == "colbert" and student.config.query_length is None and student.config.query_masks > 0


def modules_of(student: DualEncoder) -> list[Module]:
    """What follows the transformer: projection, normalisation, and which tokens count.

    Raises:
        InputError: A fixed number of [MASK] tokens that others do not attend to, which the library cannot express.
    """
    config: Any = student.config
    if has_fixed_masks(student) and not config.attend_to_masks:
        raise InputError(
            f"after every query the student puts {config.query_masks} [MASK] tokens that no other attends to, and "
            "sentence-transformers has such only up to a length", expected="a colbert trained with a query_length, or with attend_to_masks=true",
        )  # fmt: skip
    layer = student.projections[0]
    assert isinstance(layer, nn.Linear)
    found = [dense(layer, TOKENS)]
    if config.normalise:
        found.append(Module("Normalize", {"module_input_name": TOKENS, "module_output_name": TOKENS}))
    vocabulary = student.tokenizer.get_vocab()
    skipped = [one for one in string.punctuation if one in vocabulary] if config.skip_punctuation else []
    return [*found, Module("MultiVectorMask", {"skiplist_words": skipped, "skiplist_tasks": ["document"]})]


def expansion_of(student: DualEncoder) -> Mapping[str, Any]:
    """Setting of the transformer module that fills queries with [MASK], where the student does."""
    config: Any = student.config
    if config.query_length is None:
        return {}
    # `min`: a longer query is kept up to its maximum length, as here.
    return {
        "query_expansion": {
            "strategy": "min", "attend": config.attend_to_masks, "token": student.tokenizer.mask_token,
            "length": config.query_length,
        }
    }  # fmt: skip


def prompts_of(student: DualEncoder) -> dict[str, str]:
    """The markers as prompts."""
    return dict(zip(("query", "document"), MARKERS, strict=True)) if student.config.markers else {}


def tokenizer_of(student: DualEncoder, field: int) -> Any:
    """The tokenizer of a field: it reads a marker in a text as one token, and puts a fixed number of [MASK] tokens after queries.

    Raises:
        InputError: Behind the base's own special tokens they cannot be put.
    """
    masks = student.config.query_masks if field == 0 and has_fixed_masks(student) else 0
    if not student.config.markers and not masks:
        return student.tokenizer
    tokenizer = copy.deepcopy(student.tokenizer)
    if student.config.markers:
        tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
    return _with_masks(tokenizer, masks) if masks else tokenizer


def _with_masks(tokenizer: Any, masks: int) -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    first, last, mask = tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token
    expected = tokenizer("a b")["input_ids"] + [tokenizer.mask_token_id] * masks
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single=[first, "$A", last, *[mask] * masks], pair=[first, "$A", last, "$B", last],
        special_tokens=[(one, tokenizer.convert_tokens_to_ids(one)) for one in dict.fromkeys((first, last, mask))],
    )  # fmt: skip
    # The base's own class would put its own special tokens around a text again when it is loaded.
    masked = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=tokenizer.model_input_names, **tokenizer.special_tokens_map
    )
    if masked("a b")["input_ids"] != expected:
        raise InputError(
            f"the base puts other tokens around a text than {first} and {last}, so that {masks} [MASK] tokens cannot follow it",
            expected="a base that frames texts as BERT does",
        )
    return masked


def scale_of(student: DualEncoder) -> tuple[float, float]:
    """Scale and bias of the logit."""
    numbers = {name.rsplit(".", 1)[-1]: float(one) for name, one in student.head.state_dict().items()}
    return numbers.get("scale", 1.0), numbers.get("bias", 0.0)


def colbert_values(
    folder: Path,
    modules: list[tuple[str, Path]],
    settings: Mapping[str, Any],
    transformer: Mapping[str, Any],
    lengths: list[int],
    vocabulary: Mapping[str, int],
) -> tuple[dict[str, Any], Path | None]:
    """Settings of the ColBERT that computes what a `MultiVectorEncoder` folder does.

    Args:
        folder: Of the model.
        modules: Kind and folder of each.
        settings: Of `config_sentence_transformers.json`.
        transformer: Of `sentence_bert_config.json`.
        lengths: Most tokens of a query and of a document.
        vocabulary: Of the tokenizer.

    Returns:
        The settings, and the folder of the projection; None where there is none.

    Raises:
        InputError: A ColBERT computes something else.
    """
    kinds, places = [kind for kind, _ in modules], dict(modules)
    if [one for one in ("Transformer", "Dense", "Normalize", "MultiVectorMask") if one in kinds] != kinds:
        raise InputError(
            f"the folder's modules are {', '.join(kinds)}", file=folder / "modules.json",
            expected="Transformer and Pooling, or Transformer, Dense, Normalize, MultiVectorMask", fix=FIX,
        )  # fmt: skip
    if settings.get("similarity_fn_name") not in (None, "maxsim"):
        raise InputError(
            f"the folder compares by '{settings['similarity_fn_name']}'", file=folder, expected="maxsim", fix=FIX
        )
    prompts = {name: text for name, text in (settings.get("prompts") or {}).items() if text}
    marked = prompts == dict(zip(("query", "document"), MARKERS, strict=True))
    if prompts and not marked:
        raise InputError(
            f"the folder puts the prompts {prompts} before texts", file=folder, expected=f"none, or {MARKERS}", fix=FIX
        )
    normalise = "Normalize" in places
    if normalise and read_object(places["Normalize"] / "config.json").get("module_input_name") != TOKENS:
        raise InputError("the folder normalises no token vectors", file=places["Normalize"], expected=TOKENS, fix=FIX)
    config = read_dense(places["Dense"], TOKENS) if "Dense" in places else {}
    expansion = transformer.get("query_expansion") or {}
    if expansion.get("token") not in (None, "[MASK]"):
        raise InputError(f"queries are filled up with {expansion['token']!r}", file=folder, expected="[MASK]", fix=FIX)
    if expansion.get("strategy") == "fixed":
        lengths = [int(expansion["length"]), lengths[1]]
    values = {
        "encoder": {"max_lengths": lengths}, "projection": config.get("out_features"),
        "projection_bias": config.get("bias", True), "normalise": normalise, "query_masks": 0,
        "query_length": expansion.get("length"), "attend_to_masks": bool(expansion.get("attend", False)) if expansion else True,
        "markers": marked, "skip_punctuation": _skips_punctuation(places.get("MultiVectorMask"), vocabulary), "scaled": False,
    }  # fmt: skip
    return values, places.get("Dense")


def _skips_punctuation(folder: Path | None, vocabulary: Mapping[str, int]) -> bool:
    config = {} if folder is None else read_object(folder / "config.json")
    words = {one for one in config.get("skiplist_words") or () if one in vocabulary}
    if not words and not config.get("keep_only_token_ids"):
        return False
    punctuation = {one for one in string.punctuation if one in vocabulary}
    if (
        words != punctuation
        or config.get("skiplist_tasks", ["document"]) != ["document"]
        or config.get("keep_only_token_ids")
    ):
        raise InputError(
            f"tokens are left out: {config}", file=folder, expected="none, or punctuation of documents", fix=FIX
        )
    return True
