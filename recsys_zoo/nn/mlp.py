"""Fully connected blocks, with the initialisation written out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from ..config import Frozen, Search
from .activation import relu_dropout
from .norm import batch_norm_relu_dropout

Width = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1), Search(low=0.0, high=0.5, step=0.1)]
WeightInit = Literal["xavier_normal", "xavier_uniform"]
BiasInit = Literal["zero", "normal"]
# BARS tunes depth and width together; a recipe's own widths join the choices.
HIDDEN = Search(choices=([400], [400, 400], [400, 400, 400], [800, 800]), when="hidden")


class MLPSettings(Frozen):
    """Settings of a multi-layer perceptron; models with one inherit them."""

    hidden: Annotated[tuple[Width, ...], HIDDEN] = Field(
        (400, 400, 400), description="widths of the hidden layers; BARS runs on x1 data sets: 400, 400, 400"
    )
    batch_norm: Annotated[bool, Search(choices=(False, True), when="hidden")] = Field(
        False, description="batch normalisation between each hidden layer and its ReLU"
    )
    dropout: Annotated[float, Search(low=0.0, high=0.5, step=0.1, when="hidden")] = Field(
        0.0, ge=0, lt=1, description="rate of dropout after each hidden ReLU"
    )


def linear(
    inputs: int,
    outputs: int,
    bias: bool = True,
    weight_init: WeightInit = "xavier_normal",
    bias_init: BiasInit = "zero",
    blocks: int = 1,
) -> nn.Linear:
    """Linear layer to blocks * outputs, each of the `blocks` matrices initialised for itself.

    Xavier: Glorot and Bengio, AISTATS 2010. `bias_init` "normal" draws biases with the weights' variance
    2 / (inputs + outputs), and that of a single output from N(0, 1), as AutoInt's authors do.
    """
    layer = nn.Linear(inputs, blocks * outputs, bias=bias)
    draw = nn.init.xavier_normal_ if weight_init == "xavier_normal" else nn.init.xavier_uniform_
    for block in layer.weight.detach().split(outputs):
        draw(block)
    if bias and bias_init == "zero":
        nn.init.zeros_(layer.bias)
    elif bias:
        nn.init.normal_(layer.bias, std=1.0 if outputs == 1 else (2 / (inputs + outputs)) ** 0.5)
    return layer


class MLP(nn.Module):
    """Hidden layers Linear -> batch norm -> ReLU -> dropout, then Linear to `outputs`; 0 leaves it out."""

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        batch_norm: bool = False,
        dropout: float = 0.0,
        bias_init: BiasInit = "zero",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.width = inputs
        for width in hidden:
            layers.append(linear(self.width, width, bias_init=bias_init))
            layers += batch_norm_relu_dropout(width, dropout) if batch_norm else relu_dropout(dropout)
            self.width = width
        if outputs:
            layers.append(linear(self.width, outputs, bias_init=bias_init))
            self.width = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs] -> [B, width]."""
        layers = [layer for layer in self.layers if not isinstance(layer, nn.Identity)]
        for hidden, activation in zip(layers[::2], layers[1::2], strict=False):  # behind the last may be none
            x = activation.after(hidden, x)
        return layers[-1](x) if len(layers) % 2 else x
