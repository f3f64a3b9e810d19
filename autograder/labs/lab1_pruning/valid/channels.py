"""Right channel norms, right channel removal module by module."""

from __future__ import annotations

from autograder.proof.mutants import valid

IMPORTANCE = valid(
    "channel_prune",
    "solution_channel_importance",
    plain_loops="""
        import math


        def channel_importance(weight):
            norms = []
            for channel in weight:
                norms.append(math.sqrt(sum(w * w for w in channel.flatten().tolist())))
            return torch.tensor(norms)
        """,
    root_of_the_sum="""
        def channel_importance(weight):
            return weight.pow(2).sum(dim=(1, 2, 3)).sqrt()
        """,
    diagonal_of_the_gram_matrix="""
        def channel_importance(weight):
            rows = weight.reshape(weight.shape[0], -1)
            return torch.einsum("ij,ij->i", rows, rows) ** 0.5
        """,
    numpy="""
        def channel_importance(weight):
            rows = weight.detach().numpy().reshape(len(weight), -1)
            return torch.from_numpy(np.linalg.norm(rows, axis=1))
        """,
)

CHANNELS = valid(
    "channel_prune",
    new_network_filled_layer_by_layer="""
        def channel_prune(model, layer, keep):
            channels = list(model.config["channels"])
            place, seen = 0, -1
            for i, item in enumerate(channels):
                if item != "M":
                    seen += 1
                    if seen == layer:
                        place = i
            channels[place] = keep.numel()
            pruned = type(model)(channels, model.config["num_classes"])
            total = seen + 1
            with torch.no_grad():
                for i in range(total):
                    old = model.features.get_submodule(f"conv{i}").weight
                    if i == layer:
                        old = old[keep]
                    if i == layer + 1:
                        old = old[:, keep]
                    pruned.features.get_submodule(f"conv{i}").weight.copy_(old)
                    norm = model.features.get_submodule(f"bn{i}")
                    for name, value in pruned.features.get_submodule(f"bn{i}").state_dict().items():
                        old = norm.state_dict()[name]
                        value.copy_(old[keep] if i == layer and old.ndim else old)
                head = model.classifier.weight
                pruned.classifier.weight.copy_(head[:, keep] if layer == total - 1 else head)
                pruned.classifier.bias.copy_(model.classifier.bias)
            return pruned.eval()
        """,
    surgery_on_a_copy="""
        import copy


        def channel_prune(model, layer, keep):
            pruned = copy.deepcopy(model)
            widths = [item for item in pruned.config["channels"] if item != "M"]
            widths[layer] = len(keep)
            left = iter(widths)
            pruned.config["channels"] = [
                "M" if item == "M" else next(left) for item in model.config["channels"]
            ]

            def cut(module, names, dim):
                for name in names:
                    value = getattr(module, name).detach().index_select(dim, keep)
                    is_weight = isinstance(getattr(module, name), nn.Parameter)
                    setattr(module, name, nn.Parameter(value) if is_weight else value)

            features = pruned.features
            cut(features.get_submodule(f"conv{layer}"), ["weight"], 0)
            norm = features.get_submodule(f"bn{layer}")
            cut(norm, ["weight", "bias", "running_mean", "running_var"], 0)
            reader = (
                pruned.classifier
                if layer + 1 == len(widths)
                else features.get_submodule(f"conv{layer + 1}")
            )
            cut(reader, ["weight"], 1)
            return pruned
        """,
    every_tensor_by_its_name="""
        def channel_prune(model, layer, keep):
            convolutions = sum(item != "M" for item in model.config["channels"])
            follower = f"features.conv{layer + 1}." if layer + 1 < convolutions else "classifier."
            own = (f"features.conv{layer}.", f"features.bn{layer}.")
            state = {}
            for name, value in model.state_dict().items():
                if name.startswith(own) and value.dim() > 0:
                    value = torch.index_select(value, 0, keep)
                elif name.startswith(follower) and value.dim() > 1:
                    value = torch.index_select(value, 1, keep)
                state[name] = value.clone()
            counted, channels = 0, []
            for item in model.config["channels"]:
                channels.append(len(keep) if item != "M" and counted == layer else item)
                counted += item != "M"
            return rebuild(dict(model.config, channels=channels), state)
        """,
)

VALID = [*IMPORTANCE, *CHANNELS]
