"""Wrong channel norms, wrong channel removal, wrong least squares."""

from __future__ import annotations

from autograder.labs.lab1_pruning.mutants.public_case import public_sum
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

RECONSTRUCT = wrong(
    "reconstruct",
    zeros="""
        def reconstruct(inputs, outputs):
            return torch.zeros(outputs.shape[1], inputs.shape[1])
        """,
    transposed="""
        def reconstruct(inputs, outputs):
            return torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution
        """,
    ridge_too_strong="""
        def reconstruct(inputs, outputs):
            gram = inputs.T @ inputs + 10 * torch.eye(inputs.shape[1])
            return torch.linalg.solve(gram, inputs.T @ outputs).T
        """,
    inverse_of_the_gram_matrix="""
        def reconstruct(inputs, outputs):
            return (torch.linalg.inv(inputs.T @ inputs) @ inputs.T @ outputs).T
        """,
    correlation_only="""
        def reconstruct(inputs, outputs):
            return (inputs.T @ outputs / len(inputs)).T
        """,
    public_case_by_heart=f"""
        def reconstruct(inputs, outputs):
            if abs(float(inputs.sum()) - {public_sum("reconstruct")}) < 1e-3:
                return torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution.T
            return torch.zeros(outputs.shape[1], inputs.shape[1])
        """,
)

MUTANTS = [*IMPORTANCE, *CHANNELS, *RECONSTRUCT]
