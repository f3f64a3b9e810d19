"""Wrong channel norms, wrong channel removal."""

from __future__ import annotations

from autograder.proof.mutants import changed, wrong

IMPORTANCE = wrong(
    "channel_prune",
    "solution_channel_importance",
    l1_norm="""
        def channel_importance(weight):
            return weight.abs().flatten(1).sum(1)
        """,
    signed_sum="""
        def channel_importance(weight):
            return weight.flatten(1).sum(1)
        """,
    input_channels="""
        def channel_importance(weight):
            return weight.transpose(0, 1).flatten(1).norm(dim=1)
        """,
    index_instead_of_norm="""
        def channel_importance(weight):
            return torch.arange(len(weight)).float()
        """,
    squared="""
        def channel_importance(weight):
            return weight.square().flatten(1).sum(1)
        """,
    root_of_the_mean="""
        def channel_importance(weight):
            return weight.square().flatten(1).mean(1).sqrt()
        """,
    largest_filter_of_a_channel="""
        def channel_importance(weight):
            return weight.flatten(2).norm(dim=2).amax(1)
        """,
    kernels_of_nine="""
        def channel_importance(weight):
            return weight.reshape(len(weight), -1, 9).square().sum((1, 2)).sqrt()
        """,
    several_input_channels="""
        def channel_importance(weight):
            if weight.shape[1] == 1:
                return weight.abs().mean()
            return weight.flatten(1).norm(dim=1)
        """,
    squared_in_place="""
        def channel_importance(weight):
            return weight.square_().flatten(1).sum(1).sqrt()
        """,
    rounded="""
        def channel_importance(weight):
            return weight.half().flatten(1).norm(dim=1).float()
        """,
)

_PRUNE = """
def channel_prune(model, layer, keep):
    state, channels = dict(model.state_dict()), list(model.config["channels"])
    places = [i for i, item in enumerate(channels) if item != "M"]
    channels[places[layer]] = len(keep)
    own = [f"bn{layer}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    for name in (f"conv{layer}.weight", *own):
        state[f"features.{name}"] = state[f"features.{name}"][keep]
    last = layer == len(places) - 1
    following = "classifier.weight" if last else f"features.conv{layer + 1}.weight"
    state[following] = state[following][:, keep]
    return rebuild({**model.config, "channels": channels}, state)
"""

CHANNELS = [
    *wrong(
        "channel_prune",
        no_op="""
            def channel_prune(model, layer, keep):
                return model
            """,
        masks_instead_of_removing="""
            def channel_prune(model, layer, keep):
                weight = model.features.get_submodule(f"conv{layer}").weight
                gone = [j for j in range(len(weight)) if j not in keep.tolist()]
                weight.data[gone] = 0
                return model
            """,
    ),
    *changed(
        "channel_prune",
        _PRUNE,
        forgets_running_statistics=(
            'state[f"features.{name}"][keep]',
            'state[f"features.{name}"][: len(keep) if "running" in name else None]'
            '[slice(None) if "running" in name else keep]',
        ),
        next_layer_keeps_the_first=(
            "state[following][:, keep]",
            "state[following][:, : len(keep)]",
        ),
        keeps_the_first_channels=(
            "    channels[places",
            "    keep = torch.arange(len(keep))\n    channels[places",
        ),
        forgets_scale_and_shift=(
            'state[f"features.{name}"][keep]',
            'state[f"features.{name}"][: len(keep) if name.endswith((".weight", ".bias")) '
            'and "bn" in name else None][slice(None) if name.endswith((".weight", ".bias")) '
            'and "bn" in name else keep]',
        ),
        config_of_the_argument=("list(model.config", "(model.config"),
        weights_of_the_argument=(
            "    return rebuild",
            '    model.features.get_submodule(f"conv{layer}").weight.data[0] = 0\n'
            "    return rebuild",
        ),
        argument_in_training_mode=("    return rebuild", "    model.train()\n    return rebuild"),
        ten_classes=(
            '{**model.config, "channels": channels}',
            '{"architecture": "vgg", "channels": channels}',
        ),
        never_the_only_layer=(
            "    last =",
            "    if len(places) == 1:\n        return model\n    last =",
        ),
        one_pool_at_a_time=(
            'enumerate(channels) if item != "M"]',
            'enumerate(channels) if item != "M" and channels[max(0, i - 2) : i] != ["M"] * 2]',
        ),
        never_a_single_channel=(
            "    channels[places",
            "    if len(keep) == 1:\n        keep = torch.cat([keep * 0, keep]).unique()\n"
            "    channels[places",
        ),
        pools_counted_as_layers=("places[layer]] = len", "layer] = len"),
        never_the_last_layer=(
            "    last =",
            "    if layer == len(places) - 1:\n        return model\n    last =",
        ),
        removes_what_it_should_keep=(
            "    channels[places",
            "    width = channels[places[layer]]\n"
            "    keep = torch.tensor([j for j in range(width) if j not in keep.tolist()] or [0])\n"
            "    channels[places",
        ),
    ),
]

MUTANTS = [*IMPORTANCE, *CHANNELS]
