"""Right least squares by other routes, PyTorch's default driver among them."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "reconstruct",
    default_driver="""
        def reconstruct(inputs, outputs):
            return torch.linalg.lstsq(inputs, outputs).solution.T
        """,
    default_driver_on_copies="""
        def reconstruct(inputs, outputs):
            x, y = inputs.clone().contiguous(), outputs.clone()
            return torch.linalg.lstsq(x, y)[0].transpose(0, 1)
        """,
    pseudoinverse="""
        def reconstruct(inputs, outputs):
            return (torch.linalg.pinv(inputs) @ outputs).mT
        """,
    pseudoinverse_of_the_gram_matrix="""
        def reconstruct(inputs, outputs):
            x, y = inputs.double(), outputs.double()
            return (torch.linalg.pinv(x.T @ x, rtol=1e-10, hermitian=True) @ (x.T @ y)).T.float()
        """,
    eigenvectors_of_the_gram_matrix="""
        def reconstruct(inputs, outputs):
            x = inputs.numpy().astype(np.float64)
            values, vectors = np.linalg.eigh(x.T @ x)
            good = values > 1e-10 * values.max()
            basis = vectors[:, good] / values[good]
            weight = basis @ (vectors[:, good].T @ (x.T @ outputs.numpy()))
            return torch.from_numpy(weight.T.astype(np.float32))
        """,
    one_output_at_a_time="""
        def reconstruct(inputs, outputs):
            rows = [
                np.linalg.lstsq(inputs.double().numpy(), y.double().numpy(), rcond=1e-6)[0]
                for y in outputs.T
            ]
            return torch.tensor(np.array(rows), dtype=torch.float32)
        """,
    pseudoinverse_in_double="""
        def reconstruct(inputs, outputs):
            return (torch.linalg.pinv(inputs.double()) @ outputs.double()).T.float()
        """,
    numpy="""
        def reconstruct(inputs, outputs):
            solution = np.linalg.lstsq(inputs.numpy(), outputs.numpy(), rcond=None)[0]
            return torch.from_numpy(solution.T.astype(np.float32))
        """,
    singular_values_by_hand="""
        def reconstruct(inputs, outputs):
            u, s, vt = torch.linalg.svd(inputs, full_matrices=False)
            inverse = torch.where(s > 1e-5 * s.max(), 1 / s, torch.zeros_like(s))
            return outputs.T @ u @ torch.diag(inverse) @ vt
        """,
    another_driver="""
        def reconstruct(inputs, outputs):
            return torch.linalg.lstsq(inputs, outputs, driver="gelss").solution.mT.contiguous()
        """,
    normal_equations_with_a_tiny_ridge="""
        def reconstruct(inputs, outputs):
            x, y = inputs.double(), outputs.double()
            gram = x.T @ x
            ridge = 1e-9 * gram.trace() * torch.eye(len(gram), dtype=gram.dtype)
            return torch.linalg.solve(gram + ridge, x.T @ y).T.to(torch.float32)
        """,
)
