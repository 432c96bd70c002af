"""Tiny models and data for the unit tests; the integration tests have a real project of their own."""

import copy
from argparse import Namespace
from types import SimpleNamespace

import pytest
import sparse_adapter  # noqa: F401  (registers the architectures)
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.modules import MultiheadAttention
from omegaconf import OmegaConf
from sparse_adapter.modules import is_adapter_key, sparse_weights
from sparse_adapter.pruning import Objective
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)  # tensors are tiny: a second thread costs more than it brings, most of all under load
# What fairseq-generate passes to prepare_for_inference_.
INFERENCE = OmegaConf.create({"generation": {"beam": 3, "no_beamable_mm": False, "print_alignment": None}})
SIZES = {"layers": 2, "embed_dim": 32, "ffn_embed_dim": 64, "attention_heads": 4}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def dictionary() -> Dictionary:
    dictionary = Dictionary()
    for i in range(56):
        dictionary.add_symbol(f"word{i}")
    return dictionary


@pytest.fixture(scope="session")
def build_bart(dictionary):
    """``build(arch, dictionary, **arguments)``: a tiny BART, sparse or stock; the same backbone at every call."""

    def build(arch="sparse_adapter_bart_base", dictionary=dictionary, **arguments) -> nn.Module:
        sizes = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in SIZES.items()}
        defaults = {"task": "translation", "max_source_positions": 64, "max_target_positions": 64}
        args = Namespace(arch=arch, **(sizes | defaults | {"adapter_bottleneck": 8} | arguments))
        ARCH_CONFIG_REGISTRY[arch](args)
        torch.manual_seed(1)
        task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
        return ARCH_MODEL_REGISTRY[arch].build_model(args, task).eval()

    return build


@pytest.fixture
def model(build_bart) -> nn.Module:
    """A tiny BART with dense Houlsby adapters that do something, in evaluation mode."""
    return randomize(build_bart())


@pytest.fixture
def pruned_model(model) -> nn.Module:
    """The same with half of the adapters' weights pruned."""
    for weight in sparse_weights(model).values():
        weight.prune_(torch.rand(weight.shape) < 0.5)
    return model


@pytest.fixture
def stock_model(build_bart) -> nn.Module:
    """fairseq's own BART of the same size with other values."""
    return build_bart("bart_base", dropout=0.0)


@pytest.fixture
def batch(dictionary) -> dict:
    return make_batch(dictionary, seed=0)


@pytest.fixture
def objective(model, dictionary) -> Objective:
    """The summed loss of ``model`` on two batches."""
    batches = [make_batch(dictionary, seed) for seed in (0, 1)]
    return Objective([lambda b=b: translation_loss(model, b) for b in batches])


@pytest.fixture
def double_model(build_bart, monkeypatch) -> nn.Module:
    """A ``model`` in double precision throughout: fairseq's softmax and gelu compute in single precision."""
    monkeypatch.setattr("fairseq.utils.softmax", lambda x, dim, onnx_trace=False: x.softmax(dim))
    return randomize(build_bart(activation_fn="gelu_accurate").double())


@pytest.fixture
def net() -> nn.Module:
    """Two sparse linear maps of 5 -> 4 -> 3 in double precision, for explicit derivatives."""
    return make_net().double()


@pytest.fixture
def net_objective(net) -> Objective:
    """Three batches of a smooth loss that is not quadratic in the weights."""
    data = [(torch.randn(6, 5).double(), torch.randn(6, 3).double()) for _ in range(3)]
    return Objective([lambda x=x, y=y: functional.mse_loss(net(x), y, reduction="sum") for x, y in data])


def make_net() -> nn.Module:
    from sparse_adapter.modules import SparseLinear

    return nn.Sequential(SparseLinear(5, 4, nn.init.normal_), nn.Tanh(), SparseLinear(4, 3, nn.init.normal_))


def make_batch(dictionary: Dictionary, seed: int) -> dict:
    """Four random pairs of different lengths: sources padded on the left, targets on the right."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(dictionary.nspecial, len(dictionary), (4, 9), generator=generator)
    target = torch.randint(dictionary.nspecial, len(dictionary), (4, 7), generator=generator)
    source[:, -1] = target[:, -1] = dictionary.eos()
    lengths = torch.tensor([9, 7, 6, 3])
    for row, length in enumerate(lengths):
        source[row, : 9 - length] = dictionary.pad()
    target[2, 4:] = target[3, 2:] = dictionary.pad()
    target[2, 3] = target[3, 1] = dictionary.eos()
    previous = torch.where(target == dictionary.pad(), target, target.roll(1, dims=1))
    previous[:, 0] = dictionary.eos()
    inputs = {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": previous}
    return {"net_input": inputs, "target": target}


def translation_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    logits, _ = model(**batch["net_input"])
    return functional.cross_entropy(logits.flatten(0, 1), batch["target"].flatten(), ignore_index=1, reduction="sum")


def randomize(model: nn.Module, std: float = 0.3) -> nn.Module:
    """Give every parameter of the adapters a random value that is large enough to matter."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if is_adapter_key(name):
            parameter.data += std * torch.randn(parameter.shape, generator=generator)
    return model


def explicit_attention(
    attention: nn.Module,
    query: torch.Tensor,
    memory: torch.Tensor,
    masked: torch.Tensor | bool = False,
    change: dict[str, torch.Tensor] | None = None,
    prefix: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What attention with a stock module's weights is by definition.

    Args:
        query, memory: ``(seq_len, batch, dim)``.
        masked: where not to look, broadcastable to ``(batch, heads, query, memory)``.
        change: what to add to weights, by the projection: q, k, v or out.
        prefix: keys and values before those of the memory, ``(prefix_len, dim)``.

    Returns:
        The output and the attention weights ``(batch, heads, query, prefix + memory)``.
    """

    def project(x, name):
        linear = getattr(attention, f"{name}_proj")
        return x @ (linear.weight + (change or {}).get(name, 0)).T + linear.bias

    def heads(x):  # (seq_len, batch, dim) to (batch, heads, seq_len, dim / heads)
        return x.unflatten(-1, (attention.num_heads, -1)).permute(1, 2, 0, 3)

    q, k, v = (heads(project(x, name)) for x, name in ((query, "q"), (memory, "k"), (memory, "v")))
    scores = (q @ k.mT / k.size(-1) ** 0.5).masked_fill(torch.as_tensor(masked), -torch.inf)
    if prefix is not None:
        before = [heads(table.unsqueeze(1).expand(-1, query.size(1), -1)) for table in prefix]
        scores = torch.cat([q @ before[0].mT / k.size(-1) ** 0.5, scores], dim=-1)
        v = torch.cat([before[1], v], dim=2)
    weights = scores.softmax(-1)
    return project((weights @ v).permute(2, 0, 1, 3).flatten(2), "out"), weights


def strengthen(model: nn.Module) -> nn.Module:
    """Give attention weights that are large enough for its softmax to matter."""
    for module in model.modules():
        if isinstance(module, MultiheadAttention):
            for linear in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                nn.init.normal_(linear.weight, std=0.2)
                nn.init.normal_(linear.bias, std=0.2)
    return model


def state_copy(module: nn.Module) -> dict:
    return copy.deepcopy(dict(module.state_dict()))
