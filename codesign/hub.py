"""Download a Llama checkpoint from the Hugging Face hub, after its sizes were checked.

``config.json`` comes first, into a temporary folder: it says what the other files must weigh, and
what the model will need. Only then the weights are downloaded, into the cache of the package
``huggingface_hub``, which checks and shares them. Nothing happens unless somebody asks for it
(``load("hf:owner/name")``). Leaves out gated repositories, which need an account. Lecture 12.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from codesign import llama_config, llama_weights
from codesign.extras import needed

with needed("llm"):
    import huggingface_hub

CONFIG = "config.json"
WANTED = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|tokenizer\.json|config\.json"
)
WEIGHT_BYTES = (2, 8)  # of one weight, 16 to 64 bits; a tied head may be stored twice
MAX_CONFIG_BYTES = 2**20


def fetch(repository: str, revision: str | None = None) -> Path:
    """The folder with the files of ``owner/name``, downloaded where they are not there yet.

    Raises:
        ConnectionError: the hub does not answer, or has no such repository.
        ValueError: another architecture, or files that are not as large as the config says. No
            weights were downloaded then.
    """
    try:
        info = huggingface_hub.HfApi().model_info(
            repository, revision=revision, files_metadata=True
        )
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
        sizes = {name: size for name, size in sizes.items() if WANTED.fullmatch(name)}
        config = _config(repository, info.sha, sizes.get(CONFIG, 0))
    except ValueError:
        raise
    except Exception as error:  # whatever the client's transport raises
        raise ConnectionError(f"{repository} could not be found at the hub: {error}") from None
    _check_sizes(llama_config.read(config), sizes)
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=info.sha, allow_patterns=[*sizes]
        )
    except Exception as error:
        raise ConnectionError(f"{repository} could not be downloaded: {error}") from None
    return Path(folder)


def _config(repository: str, revision: str | None, size: int) -> Any:
    """The content of ``config.json``, which leaves nothing in the cache."""
    if not 0 < size <= MAX_CONFIG_BYTES:
        raise ValueError(f"got a {CONFIG} of {size} bytes; allowed: 1 to {MAX_CONFIG_BYTES}")
    with tempfile.TemporaryDirectory() as folder:
        path = huggingface_hub.hf_hub_download(
            repository, CONFIG, revision=revision, local_dir=folder
        )
        return json.loads(Path(path).read_text(encoding="utf-8"))


def _check_sizes(config: dict[str, Any], sizes: dict[str, int]) -> None:
    skeleton = llama_weights.outline(config)
    count = sum(weight.numel() for weight in skeleton.parameters())
    stored = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    least, most = count * WEIGHT_BYTES[0], 2 * count * WEIGHT_BYTES[1] + 2**20
    if not least <= stored <= most:
        raise ValueError(f"got {stored} bytes of safetensors; allowed: {least} to {most}")
    llama_weights.check_memory(skeleton)
