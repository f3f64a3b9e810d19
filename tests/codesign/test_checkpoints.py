"""Checkpoints: what is saved comes back; what is damaged, forged or foreign is refused."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from codesign import checkpoints, models, places

CONFIG = {"architecture": "vgg", "channels": [4, "M", 6], "num_classes": 3}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = models.build(CONFIG)
    model(torch.randn(4, 3, 32, 32))  # batch norm's statistics are part of a checkpoint
    return model


@pytest.fixture
def stem(tmp_path, model) -> Path:
    checkpoints.save(tmp_path / "deep/vgg-0.5", model, seed=7)
    return tmp_path / "deep/vgg-0.5"


def weights_of(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.safetensors")


def record_of(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.json")


def forge(stem: Path, weights: dict[str, torch.Tensor] | bytes, config: object = CONFIG) -> None:
    """Files whose sha256 is right, whatever they hold."""
    path = weights_of(stem)
    if isinstance(weights, bytes):
        path.write_bytes(weights)
    else:
        path.unlink()  # loaded tensors may be mapped from it
        save_file(weights, path)
    record = {"config": config, "sha256": checkpoints.sha256(path)}
    record_of(stem).write_text(json.dumps(record))


def test_a_checkpoint_comes_back_exactly(stem, model):
    loaded = checkpoints.load(stem)
    assert loaded.config == CONFIG
    assert not loaded.training
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in loaded.state_dict().items())
    assert checkpoints.info(stem)["seed"] == 7
    assert sorted(p.name for p in stem.parent.iterdir()) == [
        "vgg-0.5.json",
        "vgg-0.5.safetensors",
    ]


def test_channels_last_weights_come_back_too(tmp_path, model):
    checkpoints.save(tmp_path / "m", model.to(memory_format=torch.channels_last))
    state = checkpoints.load(tmp_path / "m").state_dict()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 99))
def test_any_width_comes_back(tmp_path, channels, seed):
    torch.manual_seed(seed)
    model = models.build({"architecture": "vgg", "channels": channels})
    checkpoints.save(tmp_path / "m", model)
    loaded = checkpoints.load(tmp_path / "m")
    assert loaded.config == model.config
    assert all(torch.equal(model.state_dict()[k], v) for k, v in loaded.state_dict().items())


def test_saving_again_replaces_both_files(stem, model):
    with torch.no_grad():
        model.classifier.bias.fill_(5)
    checkpoints.save(stem, model, seed=8)
    assert checkpoints.load(stem).classifier.bias.tolist() == [5] * 3
    assert checkpoints.info(stem)["seed"] == 8


def test_the_files_are_as_readable_as_any_other(stem):
    plain = stem.with_name("plain")
    plain.touch()
    assert weights_of(stem).stat().st_mode == plain.stat().st_mode


def test_a_config_that_asks_for_gigabytes_gets_none(stem, monkeypatch):
    devices: list[str] = []
    plain = models.build

    def build(config: dict) -> nn.Module:
        devices.append(torch.empty(0).device.type)
        return plain(config | {"channels": [4]} if devices[-1] != "meta" else config)

    monkeypatch.setattr(models, "build", build)
    forge(stem, {"a": torch.zeros(1)}, {"architecture": "vgg", "channels": [1024] * 64})
    with pytest.raises(ValueError, match="weights do not fit the config"):
        checkpoints.load(stem)
    assert devices == ["meta"], "shapes are compared before memory is taken"


# --- what is not written -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_not_written(tmp_path, model, value):
    with torch.no_grad():
        model.features.bn1.running_var[2] = value
    with pytest.raises(ValueError, match=r"features\.bn1\.running_var"):
        checkpoints.save(tmp_path / "m", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"accuracy": math.nan}, ValueError),
        ({"config": {}}, ValueError),
        ({"sha256": "0"}, ValueError),
        ({"path": Path("x")}, TypeError),
    ],
    ids=str,
)
def test_a_record_that_json_cannot_hold_is_not_written(tmp_path, model, record, error):
    with pytest.raises(error):
        checkpoints.save(tmp_path / "m", model, **record)
    assert list(tmp_path.iterdir()) == []


def test_only_course_models_are_saved(tmp_path):
    with pytest.raises(ValueError, match=r"Linear without \.config"):
        checkpoints.save(tmp_path / "m", nn.Linear(2, 2))


def test_a_failed_write_keeps_what_was_there(stem, model, monkeypatch):
    def full(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(stem, model)
    assert len(list(stem.parent.iterdir())) == 2
    checkpoints.load(stem)


# --- what is not loaded --------------------------------------------------------------------------


def test_one_changed_byte_is_noticed(stem):
    path = weights_of(stem)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name} has sha256 .* its JSON says"):
        checkpoints.load(stem)


def test_a_record_without_a_sha256_is_refused(stem):
    record_of(stem).write_text(json.dumps({"config": CONFIG}))
    with pytest.raises(ValueError, match="its JSON says None"):
        checkpoints.load(stem)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "empty", "cut", "header"])
def test_what_is_no_safetensors_file_is_refused_and_not_executed(stem, kind):
    content = weights_of(stem).read_bytes()
    if kind == "torch":
        torch.save({"a": Bomb()}, weights_of(stem))
    offered = {
        "pickle": pickle.dumps(Bomb()),
        "torch": weights_of(stem).read_bytes(),
        "text": b"hello, this is not a checkpoint",
        "empty": b"",
        "cut": content[:-4],
        "header": b"\xff" * 8 + content[8:],
    }
    forge(stem, offered[kind])
    with pytest.raises(ValueError, match="is not a safetensors file"):
        checkpoints.load(stem)
    with pytest.raises(ValueError, match="is not a safetensors file"):
        checkpoints.metadata(weights_of(stem))


def changed(model: nn.Module, kind: str) -> dict[str, torch.Tensor]:
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    first = weights["features.conv0.weight"]
    if kind == "missing":
        del weights["features.conv0.weight"]
    elif kind == "extra":
        weights["features.zz"] = first.clone()
    elif kind == "renamed":
        weights["features.conv.weight"] = weights.pop("features.conv0.weight")
    elif kind == "shape":
        weights["features.conv0.weight"] = first.flatten()
    elif kind == "half":
        weights["features.conv0.weight"] = first.half()
    elif kind == "integer":
        weights["features.conv0.weight"] = first.int()
    return weights


@pytest.mark.parametrize("kind", ["missing", "extra", "renamed", "shape", "half", "integer"])
def test_weights_of_another_network_are_refused(stem, model, kind):
    forge(stem, changed(model, kind))
    with pytest.raises(ValueError, match=r"weights do not fit the config .*first 'features\."):
        checkpoints.load(stem)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_not_loaded(stem, model, value):
    weights = changed(model, "same")
    weights["classifier.bias"][0] = value
    forge(stem, weights)
    with pytest.raises(ValueError, match=r"NaN or infinity in \['classifier\.bias'\]"):
        checkpoints.load(stem)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"sha256": "0"}',
        '{"config": "vgg"}',
        "[" * 100_000,
        "9" * 10_000,
        "\udcff",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_record_that_is_none_is_named(stem, text):
    record_of(stem).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"vgg-0\.5\.json (is not JSON|has no config)"):
        checkpoints.load(stem)


def test_a_config_that_builds_nothing_is_refused(stem, model):
    forge(stem, changed(model, "same"), {"architecture": "os.system"})
    with pytest.raises(ValueError, match=r"got architecture 'os\.system'"):
        checkpoints.load(stem)


@pytest.mark.parametrize("gone", [weights_of, record_of])
def test_a_missing_file_is_named(stem, gone):
    gone(stem).unlink()
    with pytest.raises(FileNotFoundError, match=gone(stem).name):
        checkpoints.load(stem)


def test_metadata_of_a_safetensors_file(tmp_path):
    path = checkpoints.write_tensors(tmp_path / "a", {"x": torch.zeros(2)}, {"k": "v"})
    assert checkpoints.metadata(path) == {"k": "v"}
    assert checkpoints.metadata(checkpoints.write_tensors(tmp_path / "b", {})) == {}


def test_sha256_of_a_known_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    assert checkpoints.sha256(tmp_path / "a") == expected


# --- what comes with the course ------------------------------------------------------------------


def test_shipped_checkpoints_are_whole():
    """Every committed checkpoint loads, and says how it was made and what it reaches."""
    root = Path(checkpoints.__file__).parents[1] / "data" / "checkpoints"
    for path in root.glob("*/*.json"):
        assert checkpoints.load(path.with_suffix("")).config["architecture"] in path.stem
        record = checkpoints.info(path.with_suffix(""))
        assert record["dataset"] == path.parent.name
        assert f"--dataset {record['dataset']} --seed {record['seed']}" in record["command"]
        assert 0.5 < record["test_accuracy"] < 1


def test_a_checkpoint_that_is_not_there_says_how_to_make_it():
    with pytest.raises(FileNotFoundError, match=r"codesign\.training recipe nope --dataset glyphs"):
        checkpoints.shipped("nope", "glyphs")


def test_a_shipped_checkpoint_is_found_in_a_wheel(tmp_path, monkeypatch, model):
    package = tmp_path / "site/codesign"
    package.mkdir(parents=True)
    monkeypatch.setattr(places, "__file__", str(package / "places.py"))
    monkeypatch.setattr(places, "files", lambda _: package)
    checkpoints.save(package / "_data/checkpoints/glyphs/vgg", model)
    assert checkpoints.load(checkpoints.shipped("vgg", "glyphs")).config == CONFIG
