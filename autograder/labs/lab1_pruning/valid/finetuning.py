"""Right fine-tuning under masks: other losses, masked gradients, a training loop by hand."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "sparse_model",
    labels_alone="""
        def prune_and_finetune(model, masks, images, labels, epochs, resume=None):
            def prune(network):
                with torch.no_grad():
                    for name, mask in masks.items():
                        network.get_submodule(name).weight[~mask] = 0

            prune(model)
            data = ImageSet(images, labels, lab.val.card)
            fit(model, data, epochs=epochs, lr=0.01, after_step=prune, resume=resume)
            return model
        """,
    the_dense_network_teaches="""
        def prune_and_finetune(model, masks, images, labels, epochs, resume=None):
            layers = cost.weighted_layers(model)

            def pruned(network):
                for name, layer in layers.items():
                    layer.weight.data *= masks[name].to(layer.weight.dtype)

            pruned(model)
            fit(
                model,
                ImageSet(images, labels, train.card),
                epochs=epochs,
                lr=0.05,
                seed=SEED,
                loss=distillation([dense]),
                after_step=pruned,
                resume=resume,
            )
            return model
        """,
    gradients_masked_by_hand="""
        def prune_and_finetune(model, masks, images, labels, epochs, resume=None):
            layers = cost.weighted_layers(model)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            model.train()
            with torch.no_grad():
                for name, mask in masks.items():
                    layers[name].weight.copy_(torch.where(mask, layers[name].weight, 0.0))
            for _ in range(round(epochs)):
                for index in torch.randperm(len(images)).split(32):
                    logits = model(normalize(images[index]))
                    optimizer.zero_grad()
                    functional.cross_entropy(logits, labels[index]).backward()
                    for name, mask in masks.items():
                        layers[name].weight.grad *= mask
                    optimizer.step()
            return model.eval()
        """,
    half_of_the_epochs_at_a_lower_rate="""
        def prune_and_finetune(model, masks, images, labels, epochs, resume=None):
            kept = {f"{name}.weight": mask for name, mask in masks.items()}

            @torch.no_grad()
            def restrict(network):
                for name, value in network.named_parameters():
                    if name in kept:
                        value.mul_(kept[name])

            restrict(model)
            teacher = copy.deepcopy(model)
            for lr in (0.03, 0.01):
                fit(
                    model,
                    ImageSet(images, labels, lab.val.card),
                    epochs=epochs / 2,
                    lr=lr,
                    batch_size=16,
                    loss=distillation([teacher]),
                    after_step=restrict,
                )
            return model
        """,
)
