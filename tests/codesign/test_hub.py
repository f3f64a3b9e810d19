"""The hub, played by a folder: sizes first, then the weights, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from llama_models import built, logits, tokens

from codesign import hub, llama_files


class Hub:
    """One repository, ``owner/name``, in a folder; ``calls`` is what was downloaded."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.calls, self.sizes = folder, [], {}
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.one)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.some)

    def model_info(self, repository: str, revision: str | None, files_metadata: bool):
        if repository != "owner/name":
            raise RuntimeError("404: no such repository")
        found = {path.name: path.stat().st_size for path in self.folder.iterdir()} | self.sizes
        siblings = [SimpleNamespace(rfilename=k, size=v) for k, v in found.items()]
        return SimpleNamespace(sha=f"sha of {revision}", siblings=siblings)

    def one(self, repository: str, name: str, revision: str, local_dir: str) -> str:
        self.calls.append((name, revision))
        return shutil.copy(self.folder / name, local_dir)

    def some(self, repository: str, revision: str, allow_patterns: list[str]) -> str:
        self.calls += sorted((name, revision) for name in allow_patterns)
        return str(self.folder)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Hub:
    folder = llama_files.save(tmp_path / "repository", built(), tokens())
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the same again")
    return Hub(folder, monkeypatch)


def test_a_checkpoint_is_downloaded_and_loaded(repository):
    model, tokenizer = llama_files.load("hf:owner/name@v1.0")
    assert logits(model).equal(logits(built()))
    assert len(tokenizer) == len(tokens())
    names = ["config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert repository.calls == [(name, "sha of v1.0") for name in names]


def test_no_such_repository(repository):
    with pytest.raises(ConnectionError, match="owner/other could not be found at the hub: 404"):
        llama_files.load("hf:owner/other")
    with pytest.raises(FileNotFoundError, match=r"no config\.json in hf:owner"):
        llama_files.load("hf:owner")


CHANGES = [
    ({"model_type": "gpt2"}, {}, "got model_type 'gpt2'; allowed"),
    ({"vocab_size": 900_000}, {}, r"bytes of safetensors; allowed: \d+ to"),
    ({}, {"model.safetensors": 10**9}, "got 1000000000 bytes of safetensors; allowed"),
    ({}, {"config.json": 2**21}, "got a config.json of 2097152 bytes; allowed: 1 to"),
    ({}, {"config.json": 0}, "got a config.json of 0 bytes; allowed: 1 to"),
]


@pytest.mark.parametrize(("config", "sizes", "says"), CHANGES)
def test_what_does_not_fit_is_not_downloaded(config, sizes, says, repository):
    path = repository.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    repository.sizes = sizes
    with pytest.raises(ValueError, match=says):
        hub.fetch("owner/name")
    assert {name for name, _ in repository.calls} <= {"config.json"}


def test_a_download_that_breaks_off(repository, monkeypatch):
    def broken(*args: object, **more: object) -> str:
        raise OSError("the line is dead")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(ConnectionError, match="owner/name could not be downloaded: the line"):
        hub.fetch("owner/name")
