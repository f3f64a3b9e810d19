"""Load and save a Llama in Hugging Face's layout, and load one from wherever it is.

A folder holds ``config.json``, ``model.safetensors`` (or parts of it with an index) and
``tokenizer.json``; the layout that transformers, vLLM and llama.cpp's converter read.
:func:`load` also takes a GGUF file, a repository of the Hugging Face hub, and SmolLM2. Pickle is
never read. Leaves out chat templates and other architectures. Lecture 12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from codesign import checkpoints, gguf_files, hub, llama_config, llama_weights, smollm2, tokenizer
from codesign.gguf_tokenizer import ends
from codesign.models.llama import Llama
from codesign.tokenizer import Tokenizer

WEIGHTS, INDEX, TOKENIZER = "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
HEAD = "lm_head.weight"
LEFT_OUT = "rotary_emb.inv_freq"  # old files store what is computed
HUB = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
NUMBERS = ("F64", "F32", "BF16", "F16")  # integers would need scales
MAX_JSON_BYTES = 2**28


def load(source: str | Path) -> tuple[Llama, Tokenizer | None]:
    """A model, as float32 in evaluation mode, and its tokenizer, None where there is none.

    Args:
        source: a folder in Hugging Face's layout; a ``.gguf`` file; ``"smollm2"``, which
            ``python -m codesign.smollm2`` fetches; or ``"hf:owner/name"``, perhaps with
            ``@revision``, which is downloaded.

    Raises:
        FileNotFoundError: it is not there; says what fetches it.
        ConnectionError: the hub does not answer.
        ValueError: a damaged file, another architecture, tensors or tokens that do not fit the
            config, or more than the memory holds.
    """
    if (named := HUB.fullmatch(str(source))) is not None:
        return _load_folder(hub.fetch(named[1], named[2]))
    if str(source) == "smollm2":
        return gguf_files.load(smollm2.path())
    source = Path(source)
    return gguf_files.load(source) if source.suffix == ".gguf" else _load_folder(source)


def save(folder: str | Path, model: Llama, tokens: Tokenizer | None = None) -> Path:
    """Write ``config.json``, ``model.safetensors`` and, given one, the tokenizer into a folder.

    Raises:
        ValueError: weights that are not finite, or a tokenizer with more tokens than the model.
            Nothing is written then.
    """
    folder = Path(folder)
    weights = {_theirs(k): v.detach().contiguous() for k, v in model.state_dict().items()}
    if bad := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"got NaN or infinity in {bad}; allowed: finite weights")
    last, start = (ends(tokens), tokens.start) if tokens else ([], None)
    config = llama_config.write(model.config, last, start)
    if tokens is not None:
        _check_tokens(tokens, model.config["vocabulary"])
    checkpoints.write_tensors(folder / WEIGHTS, weights, {"format": "pt"})
    _write_json(folder / "config.json", config)
    if tokens is not None:
        tokens.save(folder / TOKENIZER)
        named = {"eos_token": last[:1], "bos_token": [start] if start is not None else []}
        words = {key: tokens.inner.id_to_token(ids[0]) for key, ids in named.items() if ids}
        # The class is named, so that nobody guesses one from the type of the model.
        general = {"tokenizer_class": "PreTrainedTokenizerFast", **words}
        _write_json(folder / "tokenizer_config.json", general)
    return folder


def _theirs(name: str) -> str:
    return name if name.startswith("lm_head.") else f"model.{name}"


def _ours(name: str) -> str:
    """Our name of a tensor; of one that no Llama has a name that none has."""
    inner = name.removeprefix("model.")
    return inner if name.startswith(("model.", "lm_head.")) else f"({name})"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# --- a folder ------------------------------------------------------------------------------------


def _load_folder(folder: Path) -> tuple[Llama, Tokenizer | None]:
    """What lies in a folder, after shapes, sizes and token numbers were compared."""
    config = llama_config.read(_json(folder / "config.json"))
    skeleton = llama_weights.outline(config)
    tokens = None
    if (folder / TOKENIZER).exists():
        tokens = tokenizer.load(folder / TOKENIZER)
        _check_tokens(tokens, config["vocabulary"])
    try:
        with _opened(folder) as files:
            theirs = {_ours(name): name for name in files}
            slices = {name: files[full].get_slice(full) for name, full in theirs.items()}
            listed = {name: tuple(part.get_shape()) for name, part in slices.items()}
            if config["tied"]:  # some files store the head once more
                listed.pop(HEAD, None)
            if odd := {part.get_dtype() for part in slices.values()} - {*NUMBERS}:
                raise ValueError(f"got weights of {sorted(odd)}; allowed: {NUMBERS}")
            model = llama_weights.fill(skeleton, listed, lambda name: slices[name][:])
            if config["tied"] and HEAD in slices and not slices[HEAD][:].float().equal(model.head):
                raise ValueError("got a tied head unlike the embedding; allowed: the same numbers")
    except SafetensorError as error:
        raise ValueError(f"{folder}: got a damaged safetensors file: {error}") from None
    return model, tokens


def _check_tokens(tokens: Tokenizer, vocabulary: int) -> None:
    most = max(tokens.inner.get_vocab().values(), default=-1)
    if most >= vocabulary:
        raise ValueError(f"got token {most} of the tokenizer; allowed: 0 to {vocabulary - 1}")


@contextmanager
def _opened(folder: Path) -> Iterator[dict[str, Any]]:
    """The open file of every tensor, by the tensor's name.

    Raises:
        FileNotFoundError: no weights.
        ValueError: an index that says otherwise than the files, or leads out of the folder.
    """
    where = None
    if not (folder / WEIGHTS).exists() and (folder / INDEX).exists():
        index = _json(folder / INDEX)
        where = index.get("weight_map") if isinstance(index, dict) else None
        plain = isinstance(where, dict) and all(
            isinstance(leaf, str) and Path(leaf).name == leaf for leaf in where.values()
        )
        if not where or not plain:
            raise ValueError(f"{folder / INDEX}: got {where!r:.80}; allowed: tensors with files")
    with ExitStack() as stack:
        leaves = [WEIGHTS] if where is None else sorted({*where.values()})
        found: dict[str, Any] = {}
        listed: dict[str, str] = {}
        for leaf in leaves:
            if not (folder / leaf).is_file():
                raise FileNotFoundError(f"no {leaf} in {folder}; allowed: {WEIGHTS}, or {INDEX}")
            file = stack.enter_context(safe_open(folder / leaf, "pt"))
            listed |= dict.fromkeys(file.keys(), leaf)
            found |= dict.fromkeys(file.keys(), file)
        if where is not None and listed != where:
            wrong = sorted(k for k in {*where, *listed} if where.get(k) != listed.get(k))[0]
            raise ValueError(
                f"{folder / INDEX}: got {where.get(wrong)} for {wrong!r}; "
                f"allowed: {listed.get(wrong)}, where it is"
            )
        yield {name: file for name, file in found.items() if not name.endswith(LEFT_OUT)}


def _json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path}: got {path.stat().st_size} bytes; allowed: {MAX_JSON_BYTES}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
