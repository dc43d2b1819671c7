"""Models of our own writing against torch's, and the properties that the simulator needs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ratewise.models.attention import Block, explicit, fused
from ratewise.models.recurrent import GRU
from ratewise.models.sequence import AttentionNet, CharTransformer, RecurrentNet
from ratewise.models.vision import ResNet, VisionTransformer

pytestmark = pytest.mark.numerics


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_the_gru_is_torchs():
    theirs = nn.GRU(5, 7, batch_first=True).double()
    ours = GRU(5, 7).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 11, 5, dtype=torch.float64)
    expected = theirs(x)[0]
    torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad(expected.square().sum(), list(theirs.parameters()))
    found = torch.autograd.grad(ours(x).square().sum(), list(ours.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        ours.bias_hh_l0[-1] += 0.1  # the one bias that stands inside the reset gate's product
    assert not torch.allclose(ours(x), expected, atol=1e-4)


def test_the_gru_begins_as_torchs():
    torch.manual_seed(3)
    theirs = nn.GRU(5, 7, batch_first=True).state_dict()
    torch.manual_seed(3)
    ours = GRU(5, 7).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("causal", [True, False])
def test_the_two_forms_of_attention_agree(causal: bool):
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    expected = fused(q, k, v, causal)
    torch.testing.assert_close(explicit(q, k, v, causal), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(explicit(q, k, v, not causal), expected, atol=1e-3)


def test_a_transformer_is_the_same_in_both_forms():
    codes, made = torch.randint(11, (2, 6)), []
    for attend in (fused, explicit):
        torch.manual_seed(0)
        made.append(CharTransformer(11, 6, 8, 2, 3, attend=attend))
    torch.testing.assert_close(made[0](codes), made[1](codes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attend", [fused, explicit])
@pytest.mark.parametrize("causal", [True, False])
def test_only_a_causal_block_keeps_the_future_out(causal: bool, attend):
    block = Block(8, 2, causal=causal, attend=attend)
    x = torch.randn(1, 6, 8)
    changed = torch.cat([x[:, :4], torch.randn(1, 2, 8)], 1)
    moved = (block(x) - block(changed)).abs().amax((0, 2))
    assert (moved[4:] > 1e-3).all()
    assert (moved[:4] == 0).all() if causal else (moved[:4] > 1e-5).all()


def test_patches_are_squares_of_the_image():
    """Without positions the order of patches is nothing, but what lies in one is."""
    torch.manual_seed(0)
    model = VisionTransformer(2, 8, 4, 8, 2, 1, 3).double()
    nn.init.zeros_(model.position)
    image = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    swapped = torch.cat([image[..., 4:], image[..., :4]], -1)  # left and right patches
    torch.testing.assert_close(model(swapped), model(image))
    rolled = image.roll(1, -1)
    assert not torch.allclose(model(rolled), model(image), atol=1e-3)


def test_a_residual_net_reads_three_channels_unless_told():
    assert ResNet((8, 16), 10)(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    assert ResNet((8, 16), 10, channels=1)(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_sequences_of_symbols_and_of_vectors():
    codes, vectors = torch.randint(9, (2, 6)), torch.randn(2, 6, 5)
    assert RecurrentNet(9, 4, 9, True, False)(codes).shape == (2, 6, 9)
    assert RecurrentNet(5, 4, 3, False, True)(vectors).shape == (2, 3)
    assert AttentionNet(9, 6, 4, 2, 9, True)(codes).shape == (2, 9)
    assert AttentionNet(5, 6, 4, 2, 3, False)(vectors).shape == (2, 3)
