"""Wrong fine-tuning under masks; on the artifact none of them shows."""

from __future__ import annotations

from autograder.proof.mutants import changed, wrong

_FINETUNE = """
def prune_and_finetune(model, masks, images, labels, epochs, resume=None):
    layers, teacher = cost.weighted_layers(model), copy.deepcopy(model)

    @torch.no_grad()
    def apply_masks(_):
        for name, layer in layers.items():
            layer.weight.mul_(masks[name])

    apply_masks(model)
    data, loss = ImageSet(images, labels, lab.val.card), distillation([teacher])
    fit(model, data, epochs=epochs, lr=0.04, loss=loss, after_step=apply_masks, resume=resume)
    return model
"""

MUTANTS = [
    *changed(
        "sparse_model",
        _FINETUNE,
        removed_weights_come_back=("after_step=apply_masks, ", ""),
        never_trained=("    fit(model, data, epochs=epochs, lr", "    dict(lr"),
        masks_inverted=("mul_(masks[name])", "mul_(~masks[name])"),
        classifier_left_out=(
            "in layers.items():",
            "in layers.items():\n            if name == 'classifier':\n                continue",
        ),
        first_layer_left_out=("in layers.items():", "in list(layers.items())[1:]:"),
        tiny_weights_left=("mul_(masks[name])", "mul_(masks[name]).add_(1e-20)"),
        always_three_epochs=("epochs=epochs", "epochs=3.0"),
        returns_the_history=("    return model", "    return None"),
        returns_the_teacher=("    return model", "    return teacher"),
        half_of_the_masks=(
            "            layer.weight.mul_(masks[name])\n",
            "            layer.weight[::2].mul_(masks[name][::2])\n",
        ),
        masks_changed=("    return model", "    masks['classifier'].fill_(True)\n    return model"),
        images_changed=("    return model", "    images.zero_()\n    return model"),
        loss_ascended=(
            "distillation([teacher])",
            "lambda m, x, y: -functional.cross_entropy(m(x), y)",
        ),
    ),
    *wrong(
        "sparse_model",
        pruned_again_in_the_end_only="""
            def prune_and_finetune(model, masks, images, labels, epochs, resume=None):
                data = ImageSet(images, labels, lab.val.card)
                fit(model, data, epochs=epochs, lr=0.04)
                for name, layer in cost.weighted_layers(model).items():
                    smallest = fine_grained_prune(layer.weight.detach(), 0.5)
                    layer.weight.data.mul_(smallest)
                return model
            """,
    ),
]
