"""Right pruning criteria: masks by loops and thresholds, scans on copies, Hessians by autograd."""

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

SCAN = valid(
    "sensitivity_scan",
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

SECOND_ORDER = valid(
    "second_order_scores",
    one_sample_at_a_time="""
        def second_order_scores(features, weight, bias):
            scores = torch.zeros_like(weight)
            for x in features:
                p = torch.softmax(weight @ x + bias, dim=0)
                scores += torch.outer(p - p**2, x**2)
            return scores * weight**2 / (2 * len(features))
        """,
    einsum="""
        def second_order_scores(features, weight, bias):
            logits = torch.einsum("nk,jk->nj", features, weight) + bias
            p = torch.exp(logits - torch.logsumexp(logits, dim=1, keepdim=True))
            curvature = torch.einsum("nj,nk->jk", p - p**2, features**2) / features.shape[0]
            return curvature * weight**2 / 2
        """,
    autograd_twice="""
        def second_order_scores(features, weight, bias):
            def loss(flat):
                logits = features @ flat.reshape(weight.shape).T + bias
                return logits.logsumexp(1).mean()  # the label's logit has no second derivative

            hessian = torch.func.hessian(loss)(weight.detach().flatten())
            return 0.5 * hessian.diagonal().reshape(weight.shape) * weight.detach() ** 2
        """,
    numpy="""
        def second_order_scores(features, weight, bias):
            x, w, b = (t.detach().numpy() for t in (features, weight, bias))
            z = x @ w.T + b
            e = np.exp(z - z.max(axis=1, keepdims=True))
            p = e / e.sum(axis=1, keepdims=True)
            mean = ((p * (1 - p))[:, :, None] * x[:, None, :] ** 2).mean(axis=0)
            return torch.from_numpy(0.5 * mean * w**2)
        """,
)

VALID = [*FINE_GRAINED, *SCAN, *SECOND_ORDER]
