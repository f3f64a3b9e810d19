"""Wrong least squares."""

from __future__ import annotations

from autograder.labs.lab1_pruning.mutants.public_case import public_sum
from autograder.proof.mutants import wrong

MUTANTS = wrong(
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
    solved_normal_equations="""
        def reconstruct(inputs, outputs):
            return torch.linalg.solve(inputs.T @ inputs, inputs.T @ outputs).T
        """,
    cholesky="""
        def reconstruct(inputs, outputs):
            factor = torch.linalg.cholesky(inputs.T @ inputs)
            return torch.cholesky_solve(inputs.T @ outputs, factor).T
        """,
    full_rank_driver="""
        def reconstruct(inputs, outputs):
            return torch.linalg.lstsq(inputs, outputs, driver="gels").solution.T
        """,
    triangular_factor="""
        def reconstruct(inputs, outputs):
            q, r = torch.linalg.qr(inputs)
            return torch.linalg.solve_triangular(r, q.T @ outputs, upper=True).T
        """,
    idle_columns_left_out="""
        def reconstruct(inputs, outputs):
            used = inputs.abs().sum(0) > 0
            weight = torch.zeros(outputs.shape[1], inputs.shape[1])
            solution = torch.linalg.lstsq(inputs[:, used], outputs, driver="gels").solution
            weight[:, used] = solution.T
            return weight
        """,
    scaled_by_the_norm_of_a_column="""
        def reconstruct(inputs, outputs):
            norms = inputs.norm(dim=0)
            return (torch.linalg.pinv(inputs / norms) @ outputs / norms[:, None]).T
        """,
    with_a_bias="""
        def reconstruct(inputs, outputs):
            x, y = inputs - inputs.mean(0), outputs - outputs.mean(0)
            return torch.linalg.lstsq(x, y, driver="gelsd").solution.T
        """,
    ridge_for_inputs_around_one="""
        def reconstruct(inputs, outputs):
            gram = inputs.T @ inputs + 1e-3 * torch.eye(inputs.shape[1])
            return torch.linalg.solve(gram, inputs.T @ outputs).T
        """,
    ridge_of_a_percent="""
        def reconstruct(inputs, outputs):
            gram = inputs.T @ inputs
            gram = gram + 0.02 * gram.diagonal().mean() * torch.eye(len(gram))
            return torch.linalg.solve(gram, inputs.T @ outputs).T
        """,
    half_precision="""
        def reconstruct(inputs, outputs):
            solution = torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution
            return solution.T.half().float()
        """,
    first_output_only="""
        def reconstruct(inputs, outputs):
            solution = torch.linalg.lstsq(inputs, outputs[:, :1], driver="gelsd").solution
            return solution.T.repeat(outputs.shape[1], 1)
        """,
    inputs_centred_in_place="""
        def reconstruct(inputs, outputs):
            solution = torch.linalg.lstsq(inputs, outputs, driver="gelsd").solution
            inputs -= inputs.mean(0)
            return solution.T
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
