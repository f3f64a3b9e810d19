"""Right magnitude masks by loops, ranks and thresholds, right scans on copies and by hooks."""

from __future__ import annotations

from autograder.proof.mutants import valid

FINE_GRAINED = valid(
    "fine_grained_prune",
    plain_loops="""
        def fine_grained_prune(weight, sparsity):
            magnitudes = [abs(w) for w in weight.flatten().tolist()]
            order = sorted(range(len(magnitudes)), key=lambda i: magnitudes[i])
            gone = set(order[: round(sparsity * len(magnitudes))])
            kept = [i not in gone for i in range(len(magnitudes))]
            return torch.tensor(kept).view(weight.shape)
        """,
    keeps_the_largest="""
        def fine_grained_prune(weight, sparsity):
            kept = weight.numel() - round(sparsity * weight.numel())
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[weight.abs().flatten().topk(kept).indices] = True
            return mask.view_as(weight)
        """,
    threshold_then_as_many_ties_as_needed="""
        def fine_grained_prune(weight, sparsity):
            size = weight.numel()
            zeros = round(sparsity * size)
            magnitude = weight.detach().abs().reshape(-1)
            if zeros == 0:
                return torch.full(weight.shape, True)
            threshold = magnitude.sort().values[zeros - 1]
            mask = magnitude >= threshold
            ties = (magnitude == threshold).nonzero().flatten()
            mask[ties[: zeros - int((magnitude < threshold).sum())]] = False
            return mask.reshape(weight.shape)
        """,
    numpy_partition="""
        def fine_grained_prune(weight, sparsity):
            flat = np.abs(weight.detach().numpy()).ravel()
            zeros = round(sparsity * flat.size)
            mask = np.ones(flat.size, dtype=bool)
            if 0 < zeros < flat.size:
                mask[np.argpartition(flat, zeros)[:zeros]] = False
            elif zeros:
                mask[:] = False
            return torch.from_numpy(mask.reshape(weight.shape))
        """,
)

FINE_GRAINED += valid(
    "fine_grained_prune",
    own_copy_emptied="""
        def fine_grained_prune(weight, sparsity):
            left = weight.detach().double().abs().clone().view(-1)
            for _ in range(round(sparsity * weight.numel())):
                left[left.argmin()] = float("inf")
            return torch.isfinite(left).view_as(weight)
        """,
    rank_of_every_weight="""
        def fine_grained_prune(weight, sparsity):
            rank = torch.empty(weight.numel(), dtype=torch.long)
            order = torch.sort(weight.reshape(-1) ** 2).indices
            rank[order] = torch.arange(weight.numel())
            return (rank >= round(sparsity * weight.numel())).reshape(weight.size())
        """,
)

SCAN = valid(
    "sensitivity_scan",
    zeros_put_in_place="""
        def sensitivity_scan(model, images, labels, masks):
            found = {}
            for name, listed in masks.items():
                layer = cost.weighted_layers(model)[name]
                kept = layer.weight.detach().numpy().copy()
                found[name] = []
                for mask in listed:
                    with torch.no_grad():
                        layer.weight[~mask] = 0.0
                        found[name].append(accuracy(model, images, labels))
                        layer.weight[:] = torch.from_numpy(kept)
            return found
        """,
    another_parameter="""
        def sensitivity_scan(model, images, labels, masks):
            found = {name: [] for name in masks}
            for name, layer in cost.weighted_layers(model).items():
                own = layer.weight
                try:
                    for mask in masks.get(name, ()):
                        layer.weight = nn.Parameter(own.detach() * mask, requires_grad=False)
                        found[name].append(accuracy(model, images, labels))
                finally:
                    layer.weight = own
            return found
        """,
    hooks="""
        def sensitivity_scan(model, images, labels, masks):
            found = {}
            for name, listed in masks.items():
                layer = model.get_submodule(name)
                values = []
                for mask in listed:
                    def masked(module, args, output, mask=mask):
                        pruned = module.weight * mask
                        if isinstance(module, nn.Linear):
                            return functional.linear(args[0], pruned, module.bias)
                        return functional.conv2d(args[0], pruned, module.bias, padding=1)

                    handle = layer.register_forward_hook(masked)
                    values.append(accuracy(model, images, labels))
                    handle.remove()
                found[name] = values
            return found
        """,
    a_copy_for_each_mask="""
        import copy


        def sensitivity_scan(model, images, labels, masks):
            def masked(name, mask):
                pruned = copy.deepcopy(model)
                with torch.no_grad():
                    pruned.get_submodule(name).weight *= mask
                return accuracy(pruned, images, labels)

            return {name: [masked(name, mask) for mask in listed] for name, listed in masks.items()}
        """,
    restores_the_whole_state="""
        def sensitivity_scan(model, images, labels, masks):
            state = {name: value.clone() for name, value in model.state_dict().items()}
            found = {}
            for name in masks:
                found[name] = []
                for mask in masks[name]:
                    key = f"{name}.weight"
                    pruned = torch.where(mask, state[key], torch.zeros(()))
                    model.load_state_dict({**state, key: pruned})
                    found[name].append(accuracy(model, images, labels))
            model.load_state_dict(state)
            return found
        """,
    own_forward_pass="""
        from torch.func import functional_call


        def sensitivity_scan(model, images, labels, masks):
            found = {}
            with torch.no_grad():
                x = normalize(images)
                for name, layer in cost.weighted_layers(model).items():
                    for mask in masks.get(name, []):
                        pruned = {f"{name}.weight": layer.weight * mask}
                        right = functional_call(model, pruned, (x,)).argmax(1) == labels
                        found.setdefault(name, []).append(right.float().mean().item())
            return found
        """,
)

VALID = [*FINE_GRAINED, *SCAN]
