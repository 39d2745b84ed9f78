"""Muon: momentum whose direction is made orthogonal, for the weights that are matrices; AdamW for the others."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Quintic Newton-Schulz coefficients: five steps bring singular values in (0, 1] near to 1 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return about ``U V^T`` of each matrix ``U S V^T``: singular values between 0.7 and 1.2.

    Args:
        matrices: ``(B, M, N)``; in BF16 it costs a fraction where the processor multiplies BF16 matrices, and the
            singular values end within the same bounds.

    Source:
        Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def is_matrix(parameter: nn.Parameter) -> bool:
    """Tell whether Muon suits a weight: a dense convolution or linear map, no depthwise filters, no vectors."""
    return parameter.ndim > 1 and parameter.shape[1] > 1 and min(parameter.shape[0], parameter[0].numel()) >= 16


class Muon(torch.optim.Optimizer):
    """Muon for convolutions as ``(outputs, inputs * kh * kw)`` matrices, AdamW for all other parameters.

    A matrix moves by ``0.2 sqrt(max(M, N)) lr`` times its orthogonal direction, the root mean square of an AdamW step,
    so that a recipe's learning rate and weight decay serve both (Liu et al., "Muon is scalable", 2025, equation 4).

    Args:
        parameters: all parameters to train.
        lr: learning rate.
        momentum: of the matrices (Nesterov).
        betas: AdamW's decay rates.
        weight_decay: decoupled, on parameters with more than one dimension.
        half: make the directions orthogonal in BF16, as the authors do; for machines that train in BF16.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        half: bool = False,
    ) -> None:
        self.precision = torch.bfloat16 if half else torch.float32
        trained = [p for p in parameters if p.requires_grad]
        shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in trained:
            if is_matrix(p):
                shapes.setdefault(tuple(p.shape), []).append(p)
        # One group per shape: its matrices are made orthogonal in one batched product.
        groups: list[dict[str, Any]] = [
            {"params": params, "matrix": True, "weight_decay": weight_decay} for params in shapes.values()
        ]
        rest = [p for p in trained if not is_matrix(p)]
        groups.append({"params": [p for p in rest if p.ndim > 1], "matrix": False, "weight_decay": weight_decay})
        groups.append({"params": [p for p in rest if p.ndim <= 1], "matrix": False, "weight_decay": 0.0})
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            (self._step_matrices if group["matrix"] else self._step_adamw)(params, group)
        return value

    def _step_matrices(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        directions = []
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            directions.append(torch.lerp(p.grad, state["momentum"], group["momentum"]).flatten(1))  # type: ignore[arg-type]
        stacked = orthogonalize(torch.stack(directions).to(self.precision)).float()
        scale = 0.2 * max(stacked.shape[-2:]) ** 0.5 * group["lr"]
        for p, direction in zip(params, stacked, strict=True):
            p.add_(direction.view(p.shape), alpha=-scale)

    def _step_adamw(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            step = float(state["step"])
            state["exp_avg"].lerp_(p.grad, 1 - first)
            state["exp_avg_sq"].lerp_(p.grad.square(), 1 - second)  # type: ignore[union-attr]
            spread = (state["exp_avg_sq"] / (1 - second**step)).sqrt_().add_(1e-8)
            p.addcdiv_(state["exp_avg"], spread, value=-group["lr"] / (1 - first**step))
