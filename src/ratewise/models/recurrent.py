"""A GRU from elementary operations, which works under `torch.func.vmap`; nn.GRU does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad


class GRU(nn.Module):
    """One layer, batch first: `nn.GRU`'s parameters, initialisation and equations.

    With sigma the logistic function and * the product of elements (Cho et al. 2014, with the reset
    gate behind the product, as in nn.GRU):
    r = sigma(W_ir x + b_ir + W_hr h + b_hr), z likewise, n = tanh(W_in x + b_in + r * (W_hn h +
    b_hn)), h' = (1 - z) * n + z * h.

    Args:
        inputs: numbers a time step.
        width: numbers of the state h.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * width, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * width, width))
        self.bias_ih_l0 = nn.Parameter(torch.empty(3 * width))
        self.bias_hh_l0 = nn.Parameter(torch.empty(3 * width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [n, length, inputs] to states [n, length, width], from a state of zeros."""
        width = self.weight_hh_l0.shape[1]
        gates = self.bias_hh_l0[: 2 * width]
        # What does not depend on the state, in one product for all time steps.
        given = linear(x, self.weight_ih_l0, self.bias_ih_l0 + pad(gates, (0, width)))
        of_gates, of_new = given.split((2 * width, width), -1)
        recurrent, bias = self.weight_hh_l0.t(), self.bias_hh_l0[2 * width :]
        state = torch.zeros_like(of_new[:, 0])
        states = []
        for gate, new in zip(of_gates.unbind(1), of_new.unbind(1), strict=True):
            kept = state @ recurrent  # [n, 3 * width]
            reset, update = torch.sigmoid(gate + kept[:, : 2 * width]).chunk(2, -1)
            new = torch.tanh(new + reset * (kept[:, 2 * width :] + bias))
            state = torch.lerp(new, state, update)
            states.append(state)
        return torch.stack(states, 1)
