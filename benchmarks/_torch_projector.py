"""The reference projector in PyTorch: the same network, weights, starts and steps."""

import numpy as np
import torch
from torch import nn


class Generator(nn.Module):
    """The study's generator with the weights of one of ours, for inference."""

    def __init__(self, generator):
        super().__init__()
        layers = {
            kind: [layer for layer in generator.stack.layers if type(layer).__name__ == kind]
            for kind in ("Dense", "BatchNormalization", "Conv2DTranspose", "Conv2D")
        }
        self.image_shape = generator.image_shape
        (dense,), (last,) = layers["Dense"], layers["Conv2D"]
        width = dense.units // 16
        self.width = width
        # Keras flattens (4, 4, channels), PyTorch (channels, 4, 4).
        kernel = dense.kernel.numpy().reshape(-1, 4, 4, width).transpose(3, 1, 2, 0)
        self.dense = nn.Linear(generator.latent_dim, 16 * width, bias=False)
        first, *others = layers["BatchNormalization"]
        self.norm = nn.BatchNorm1d(16 * width, eps=first.epsilon)
        self.transposed, self.norms = nn.ModuleList(), nn.ModuleList()
        for layer, norm in zip(layers["Conv2DTranspose"], others, strict=True):
            _, _, out, channels = layer.kernel.shape
            self.transposed.append(nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False))
            self.norms.append(nn.BatchNorm2d(out, eps=norm.epsilon))
            weight = layer.kernel.numpy().transpose(3, 2, 0, 1)
            _assign(self.transposed[-1].weight, weight)
            _assign_norm(self.norms[-1], [value.numpy() for value in norm.variables])
        _assign(self.dense.weight, kernel.reshape(16 * width, -1))
        reorder = [
            value.numpy().reshape(4, 4, width).transpose(2, 0, 1).ravel()
            for value in first.variables
        ]
        _assign_norm(self.norm, reorder)
        self.last = nn.Conv2d(last.kernel.shape[2], last.filters, 4)
        _assign(self.last.weight, last.kernel.numpy().transpose(3, 2, 0, 1))
        _assign(self.last.bias, last.bias.numpy())
        self.eval().requires_grad_(False)

    def forward(self, z):
        outputs = torch.relu(self.norm(self.dense(z))).view(-1, self.width, 4, 4)
        for convolution, norm in zip(self.transposed, self.norms, strict=True):
            outputs = torch.relu(norm(convolution(outputs)))
        logits = self.last(nn.functional.pad(outputs, (1, 2, 1, 2)))
        height, width, _ = self.image_shape
        top, left = (32 - height) // 2, (32 - width) // 2
        return torch.sigmoid(logits[:, :, top : top + height, left : left + width])


def _assign(parameter, value):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _assign_norm(norm, values):
    parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    for part, value in zip(parts, values, strict=True):
        _assign(part, value)


def settings(generator):
    """Yields a name and a generator for every way in which PyTorch may be at its best."""
    for name, layout in (
        ("eager", torch.contiguous_format),
        ("eager, channels_last", torch.channels_last),
    ):
        yield name, Generator(generator).to(memory_format=layout)
    yield "compiled", torch.compile(Generator(generator))


def project(generator, images, z0, num_steps, step_size=10.0, momentum=0.7):
    """Returns each start's smallest error `(batch, num_restarts)`; as DefenseGAN's reference."""
    num_restarts = len(z0)
    images = torch.from_numpy(np.asarray(images).transpose(0, 3, 1, 2).copy())
    images = images.repeat_interleave(num_restarts, dim=0)
    z = torch.from_numpy(np.tile(np.asarray(z0), (len(images) // num_restarts, 1)))
    velocity, best = torch.zeros_like(z), torch.full((len(z),), float("inf"))
    best_z = z
    for step in range(num_steps):
        z = z.requires_grad_()
        errors = ((generator(z) - images) ** 2).mean((1, 2, 3))
        (gradient,) = torch.autograd.grad(errors.sum(), z)
        with torch.no_grad():
            is_better = errors < best
            best, best_z = (
                torch.where(is_better, errors, best),
                torch.where(is_better[:, None], z, best_z),
            )
            velocity = momentum * velocity + gradient
            z = z - (step_size if step < 0.8 * num_steps else 0.1 * step_size) * velocity
    with torch.no_grad():
        best = torch.minimum(best, ((generator(z) - images) ** 2).mean((1, 2, 3)))
    return best.view(-1, num_restarts).numpy()
