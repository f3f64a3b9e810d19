"""Right second-order scores: by autograd, by samples, in double precision."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "second_order_scores",
    double_precision_inside="""
        def second_order_scores(features, weight, bias):
            x, w, b = features.double(), weight.double(), bias.double()
            p = torch.softmax(torch.addmm(b, x, w.mT), dim=-1)
            mean = (p * (1 - p)).mT.matmul(x * x).div_(len(x))
            return (w * w).mul_(mean).div_(2).float()
        """,
    answers_in_double_precision="""
        def second_order_scores(features, weight, bias):
            x, w, b = (t.numpy().astype(np.float64) for t in (features, weight, bias))
            z = x @ w.T + b
            p = np.exp(z - z.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            return torch.from_numpy((p * (1 - p)).T @ x**2 * w**2 / (2 * len(x)))
        """,
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
