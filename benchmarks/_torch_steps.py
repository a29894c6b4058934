"""One training step of each network in PyTorch: the same layers, losses and batch."""

import torch
from torch import nn
from torch.nn import functional

BATCH_NORM_MOMENTUM = 0.01


def _normed(filters, channels):
    return [
        nn.Conv2d(channels, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters, momentum=BATCH_NORM_MOMENTUM),
        nn.ReLU(),
    ]


def _convolutional(channels, widths, pixels, dropout, classes=10):
    layers = []
    for filters in widths:
        layers += _normed(filters, channels) + _normed(filters, filters) + [nn.MaxPool2d(2)]
        channels = filters
    features = channels * (pixels // 2 ** len(widths)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, classes))


def cnn():
    """Returns the classifier of MNIST."""
    return _convolutional(1, (32, 64), 28, 0.4)


def vgg13():
    """Returns the classifier of CIFAR-10."""
    return _convolutional(3, (64, 128, 256, 512, 512), 32, 0.5)


class PuVAE(nn.Module):
    """MNIST's PuVAE under the true label."""

    def __init__(self, latent_dim=50):
        super().__init__()
        convolutions, channels = [], 1
        for _ in range(3):
            convolutions += [nn.Conv2d(channels, 32, 7, dilation=2, padding=6), nn.ReLU()]
            channels = 32
        self.convolutions = nn.Sequential(*convolutions, nn.Flatten())
        self.features = nn.Linear(28 * 28 * 32, 1024)
        self.labels = nn.Linear(10, 1024, bias=False)
        self.hidden = nn.Linear(1024, 1024)
        self.mean, self.stddev = nn.Linear(1024, latent_dim), nn.Linear(1024, latent_dim)
        self.dense = nn.Linear(latent_dim + 10, 512)
        options = {"stride": 2, "padding": 3, "output_padding": 1}
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(32, 32, 7, **options), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 32, 7, **options), nn.ReLU()),
            nn.ConvTranspose2d(32, 1, 7, **options),
        )

    def forward(self, images, one_hot):
        hidden = torch.relu(self.features(self.convolutions(images)) + self.labels(one_hot))
        hidden = torch.relu(self.hidden(hidden))
        mean, stddev = self.mean(hidden), functional.softplus(self.stddev(hidden))
        z = mean + stddev * torch.randn_like(mean)
        decoded = torch.relu(self.dense(torch.cat([z, one_hot], 1))).view(-1, 32, 4, 4)
        return self.decoder(decoded)[:, :, 2:30, 2:30], mean.float(), stddev.float()


class _Step:
    """One step; `models` hold the trained weights, `num_trained` says how many those are."""

    def __init__(self, models, rate=1e-3):
        self.optimizers = [
            torch.optim.Adam(model.parameters(), rate, fused=True) for model in models
        ]
        self.num_trained = sum(p.numel() for model in models for p in model.parameters())

    def descend(self, index, loss):
        """Steps one model; no gradient is computed for the weights of another."""
        self.optimizers[index].zero_grad(set_to_none=True)
        weights = [p for group in self.optimizers[index].param_groups for p in group["params"]]
        loss.backward(inputs=weights)
        self.optimizers[index].step()


class PuVAEStep(_Step):
    """Reconstruction, KL and classification loss; the classifier is frozen."""

    def __init__(self, to):
        self.model, self.classifier = to(PuVAE()), to(cnn()).eval().requires_grad_(False)
        super().__init__([self.model])

    def __call__(self, images, labels):
        one_hot = functional.one_hot(labels, 10).to(images.dtype)
        logits, mean, stddev = self.model(images, one_hot)
        rc = functional.binary_cross_entropy_with_logits(logits.float(), images, reduction="sum")
        kl = 0.5 * (mean**2 + stddev**2 - torch.log(stddev**2 + 1e-7) - 1).sum()
        classified = self.classifier(torch.sigmoid(logits.float()))
        ce = functional.cross_entropy(classified.float(), labels)
        self.descend(0, 0.01 * (rc + kl) / len(images) + 0.1 * ce)


def _discriminator(channels, widths, pixels, norm):
    layers = []
    for index, filters in enumerate(widths):
        layers.append(nn.Conv2d(channels, filters, 4, 2, padding=1 if pixels % 2 == 0 else 2))
        pixels = -(-pixels // 2)
        if index:
            layers.append(norm(filters))
        layers.append(nn.LeakyReLU(0.2))
        channels = filters
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * pixels**2, 1))


class DCGANStep(_Step):
    """Both halves with the logistic loss, on MNIST."""

    def __init__(self, to):
        layers, channels = [], 64
        for filters in (32, 16, 8):
            layers += [nn.ConvTranspose2d(channels, filters, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(filters, momentum=BATCH_NORM_MOMENTUM), nn.ReLU()]
            channels = filters
        self.generator = to(
            nn.Sequential(
                *(nn.Linear(100, 1024, bias=False), nn.BatchNorm1d(1024), nn.ReLU()),
                *(nn.Unflatten(1, (64, 4, 4)), *layers),
                *(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(8, 1, 4)),
            )
        )
        self.discriminator = to(_discriminator(1, (16, 32, 64), 28, nn.BatchNorm2d))
        super().__init__([self.generator, self.discriminator], 2e-4)

    def __call__(self, images, labels):
        z = torch.randn(len(images), 100)
        generated = torch.sigmoid(self.generator(z)[:, :, 2:30, 2:30].float())
        real = self.discriminator(images).float()
        fake = self.discriminator(generated.detach()).float()
        loss = functional.softplus(-real).mean() + functional.softplus(fake).mean()
        self.descend(1, loss)
        fake = self.discriminator(generated).float()
        self.descend(0, functional.softplus(-fake).mean())


class AdvGANStep(_Step):
    """Against MNIST's frozen classifier: margin, least squares and hinge loss."""

    def __init__(self, to):
        layers, channels = [], 1
        for filters, stride in ((16, 1), (32, 2), (64, 2), (64, 1), (32, 1)):
            layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False)]
            layers += [nn.GroupNorm(filters, filters), nn.ReLU()]
            channels = filters
        for filters, stride in ((64, 1), (64, 1), (64, 2), (32, 2), (16, 1)):
            extra = stride - 1
            layers += [nn.ConvTranspose2d(channels, filters, 3, stride, 1, extra, bias=False)]
            layers += [nn.GroupNorm(filters, filters), nn.ReLU()]
            channels = filters
        self.generator = to(nn.Sequential(*layers, nn.Conv2d(16, 1, 3, padding=1)))
        norm = lambda filters: nn.GroupNorm(filters, filters)  # noqa: E731
        self.discriminator = to(_discriminator(1, (8, 16, 32), 28, norm))
        self.target = to(cnn()).eval().requires_grad_(False)
        super().__init__([self.generator, self.discriminator])

    def __call__(self, images, labels):
        perturbation = 0.2 * torch.tanh(self.generator(images).float())
        adversarial = (images + perturbation).clamp(0, 1)
        logits = self.target(adversarial).float()
        true = logits.gather(1, labels[:, None])[:, 0]
        is_true = functional.one_hot(labels, 10).bool()
        other = logits.masked_fill(is_true, -1e9).max(1).values
        margin = (true - other).clamp(min=-2.0).mean()
        gan = ((self.discriminator(adversarial).float() - 1) ** 2).mean()
        hinge = (perturbation.flatten(1).norm(dim=1) - 6.0).clamp(min=0).mean()
        self.descend(0, margin + 0.1 * gan + hinge)
        real = self.discriminator(images).float()
        fake = self.discriminator(adversarial.detach()).float()
        self.descend(1, ((real - 1) ** 2).mean() + (fake**2).mean())


class VGG13Step(_Step):
    """Cross entropy, SGD with momentum."""

    def __init__(self, to):
        self.model = to(vgg13())
        super().__init__([self.model])
        self.optimizers = [
            torch.optim.SGD(
                self.model.parameters(), 0.1, momentum=0.9, weight_decay=5e-3, fused=True
            )
        ]

    def __call__(self, images, labels):
        self.descend(0, functional.cross_entropy(self.model(images).float(), labels))


STEPS = {"puvae": PuVAEStep, "dcgan": DCGANStep, "advgan": AdvGANStep, "vgg13": VGG13Step}


def settings(name, images, labels):
    """Yields a setting's name, a call of one step, and the number of trained weights.

    Args:
        name: A key of `STEPS`.
        images: `(batch, height, width, channels)`, NumPy.
        labels: `(batch,)`, NumPy.
    """
    torch.manual_seed(0)
    images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(labels.astype("int64"))
    for layout in (torch.contiguous_format, torch.channels_last):
        inputs = images.contiguous(memory_format=layout)
        for is_half in (False, True):
            step = STEPS[name](lambda model, layout=layout: model.to(memory_format=layout))

            def call(step=step, inputs=inputs, is_half=is_half):
                with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                    step(inputs, labels)

            words = ["channels_last"] * (layout is torch.channels_last)
            words += ["bfloat16" if is_half else "float32"]
            yield ", ".join(words), call, step.num_trained
