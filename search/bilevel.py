"""Gradients of the validation loss for the architecture, as pure functions of losses.

The upper level minimises L_val(w*(a), a) over the architecture a, where w*(a) minimises L_train(w, a). First order
takes w*(a) = w (what AutoPose uses, section 3.2.2). Second order (DARTS, Liu et al. 2019, eq. 7-8) takes one gradient
step, w' = w - xi grad_w L_train(w, a), and differentiates through it:

    grad_a L_val(w', a) - xi (grad_a L_train(w+, a) - grad_a L_train(w-, a)) / (2 eps)
    w+- = w +- eps grad_w' L_val(w', a)

with eps = 0.01 / ||grad_w' L_val(w', a)||, a central difference in place of the Hessian-vector product.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
#: (weights, architecture) -> scalar loss on a fixed batch with fixed noise.
Loss = Callable[[Tensors, Tensors], Tensor]


def gradients(loss: Tensor, tensors: Tensors) -> dict[str, Tensor]:
    """Return the gradients of those tensors that the loss depends on."""
    if not loss.requires_grad:  # as of a network with all its branches off, in which no cell takes part
        return {}
    found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return {name: grad for name, grad in zip(tensors, found, strict=True) if grad is not None}


def _leaves(tensors: Tensors, *, grad: bool) -> dict[str, Tensor]:
    return {name: tensor.detach().requires_grad_(grad) for name, tensor in tensors.items()}


def first_order(validation_loss: Loss, weights: Tensors, arch: Tensors) -> dict[str, Tensor]:
    """Return grad_a L_val(w, a)."""
    arch = _leaves(arch, grad=True)
    return gradients(validation_loss(_leaves(weights, grad=False), arch), arch)


def second_order(
    train_loss: Loss,
    validation_loss: Loss,
    weights: Tensors,
    arch: Tensors,
    *,
    lr: float,
    radius: float = 0.01,
) -> dict[str, Tensor]:
    """Return the gradient through one step of gradient descent on the weights.

    Args:
        train_loss: lower-level loss.
        validation_loss: upper-level loss.
        weights: w.
        arch: a.
        lr: xi, the length of the virtual step.
        radius: eps times the norm of grad_w' L_val.
    """
    leaf_w, leaf_a = _leaves(weights, grad=True), _leaves(arch, grad=False)
    step = gradients(train_loss(leaf_w, leaf_a), leaf_w)
    ahead = {name: w.detach() - lr * step[name] if name in step else w.detach() for name, w in leaf_w.items()}

    leaf_w, leaf_a = _leaves(ahead, grad=True), _leaves(arch, grad=True)
    loss = validation_loss(leaf_w, leaf_a)
    both = gradients(loss, {f"w.{k}": v for k, v in leaf_w.items()} | {f"a.{k}": v for k, v in leaf_a.items()})
    direction = {name[2:]: grad for name, grad in both.items() if name.startswith("w.")}
    result = {name[2:]: grad for name, grad in both.items() if name.startswith("a.")}

    norm = math.sqrt(sum(float((grad.double() ** 2).sum()) for grad in direction.values()))
    if norm == 0:
        return result
    eps = radius / norm
    sides = []
    for sign in (1.0, -1.0):
        moved = {
            name: w.detach() + sign * eps * direction[name] if name in direction else w for name, w in weights.items()
        }
        sides.append(first_order(train_loss, moved, arch))
    for name in sides[0]:
        correction = (sides[0][name] - sides[1][name]) / (2 * eps)
        result[name] = result[name] - lr * correction if name in result else -lr * correction
    return result
