import json
import shutil
import zlib
from argparse import Namespace

import pytest
import torch
from omegaconf import OmegaConf
from sparse_adapter.adapters.adapter_fusion import Fusion, same_sources
from sparse_adapter.modules import is_adapter_key, prunable_weights, sparse_weights

from ..conftest import randomize, state_copy


def run(model, batch):
    return model(**batch["net_input"])[0]


@pytest.fixture
def save_adapter(build_bart, tmp_path):
    """``save(name, **arguments)``: a file with a random adapter, of which half was pruned, and its model."""

    def save(name: str, **arguments):
        model = build_bart(**({"adapter": "pfeiffer"} | arguments))
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        for weight in sparse_weights(model).values():
            weight.values.data += 0.3 * torch.randn(weight.shape, generator=generator)
            weight.prune_(torch.rand(weight.shape, generator=generator) < 0.5)
        path = tmp_path / f"{name}.pt"
        args = model.adapter_args
        state = {"args": None, "cfg": {"model": args}, "model": model.state_dict()}
        history = [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
        torch.save({**state, "optimizer_history": history, "extra_state": {"train_iterator": {}}}, path)
        return str(path), model

    return save


@pytest.fixture
def fuse(build_bart):
    def fuse(*paths: str, **arguments):
        return build_bart(adapter="adapter_fusion", fusion_adapters=",".join(paths), **arguments)

    return fuse


@pytest.mark.parametrize("family", ["pfeiffer", "houlsby"])
@pytest.mark.parametrize("normalize_before", [True, False])
def test_a_fusion_of_one_starts_as_that_adapter(save_adapter, fuse, batch, family, normalize_before):
    order = {"encoder_normalize_before": normalize_before, "decoder_normalize_before": normalize_before}
    path, single = save_adapter("one", adapter=family, adapter_layer_norm="auto", **order)
    assert torch.equal(run(fuse(path, **order), batch), run(single, batch))


def test_against_the_equation(save_adapter, fuse):
    paths = [save_adapter(name)[0] for name in ("a", "b", "c")]
    model = randomize(fuse(*paths))
    fusion = model.encoder.layers[0].sparse_adapter["adapter_fusion"].ffn
    assert isinstance(fusion, Fusion)
    x, residual = torch.randn(5, 2, 32), torch.randn(5, 2, 32)
    z = model.encoder.layers[0].final_layer_norm(x + residual)
    changes = [adapter(z) for adapter in fusion.adapters]
    query = z @ fusion.query.weight.values.T + fusion.query.bias
    keys = [change @ fusion.key.weight.values.T + fusion.key.bias for change in changes]
    attention = torch.stack([(query * key).sum(-1) for key in keys]).softmax(0)
    value = torch.eye(32) + fusion.value.weight.values
    expected = sum(a.unsqueeze(-1) * (change @ value.T) for a, change in zip(attention, changes, strict=True))
    torch.testing.assert_close(fusion.change(x, residual), expected, rtol=1e-4, atol=1e-5)
    assert attention.std() > 0.05


def test_only_the_fusion_is_trained_and_pruned(save_adapter, fuse):
    model = fuse(save_adapter("a")[0], save_adapter("b")[0])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    sites = [
        f"{stack}.layers.{i}.sparse_adapter.adapter_fusion.ffn" for stack in ("encoder", "decoder") for i in (0, 1)
    ]
    parameters = ["query.weight.values", "query.bias", "key.weight.values", "key.bias", "value.weight.values"]
    assert trained == {f"{site}.{parameter}" for site in sites for parameter in parameters}
    assert set(prunable_weights(model)) == {f"{site}.{m}.weight" for site in sites for m in ("query", "key", "value")}
    assert len(sparse_weights(model)) == 12 + 2 * 8


def test_a_checkpoint_needs_no_files_and_gives_the_same_bits(save_adapter, fuse, build_bart, batch):
    paths = [save_adapter(name)[0] for name in ("a", "b")]
    model = randomize(fuse(*paths))
    for weight in prunable_weights(model).values():
        weight.prune_(torch.rand(weight.shape) < 0.5)
    expected, state = run(model, batch), state_copy(model)
    recorded = model.adapter_args.fusion_sources
    assert [source["family"] for source in json.loads(recorded)] == ["pfeiffer", "pfeiffer"]
    again = build_bart(adapter="adapter_fusion", fusion_adapters="gone.pt,lost.pt", fusion_sources=recorded)
    again.load_state_dict(state)
    assert torch.equal(run(again, batch), expected)
    again.prepare_for_inference_(
        OmegaConf.create({"generation": {"beam": 4, "no_beamable_mm": False, "print_alignment": None}})
    )
    torch.testing.assert_close(run(again, batch), expected, rtol=0, atol=1e-5)


def test_files_may_differ_in_size(save_adapter, fuse, batch):
    model = fuse(save_adapter("a")[0], save_adapter("b", adapter_bottleneck=3, large_sparse=2)[0])
    widths = [
        adapter.down.weight.shape[0]
        for adapter in model.encoder.layers[0].sparse_adapter["adapter_fusion"].ffn.adapters
    ]
    assert widths == [8, 6]
    assert run(model, batch).isfinite().all()


def test_what_cannot_be_fused_is_refused(save_adapter, fuse, tmp_path):
    one = save_adapter("one")[0]
    lora = save_adapter("lora", adapter="lora", lora_rank=2)[0]
    houlsby = save_adapter("houlsby", adapter="houlsby")[0]
    deeper = save_adapter("deeper", decoder_layers=3)[0]
    decoder_only = save_adapter("decoder", adapter_layers="decoder")[0]
    fingerprinted = [save_adapter(name, backbone_fingerprint=name)[0] for name in ("x", "y")]
    for paths, message in [
        ((), "needs --fusion-adapters"),
        ((str(tmp_path / "none.pt"),), "there is no such file"),
        ((one, lora), "holds the adapter 'lora'"),
        ((one, houlsby), "fuse one family"),
        ((one, deeper), "where this model fuses nothing: give the layers and the --adapter-layers"),
        ((one, decoder_only), "has no adapter at encoder.layers.0"),
        (fingerprinted, "different backbones"),
        ((one, one), "names a file twice"),
    ]:
        with pytest.raises(SystemExit) as error:
            fuse(*paths)
        assert message in str(error.value), paths


def test_adapters_are_kept_apart_from_the_backbone(save_adapter, fuse, stock_model):
    model = fuse(save_adapter("a")[0])
    assert {key for key in model.state_dict() if not is_adapter_key(key)} == set(stock_model.state_dict())


def test_the_same_adapters_are_known_again(save_adapter, fuse, tmp_path):
    first = fuse(save_adapter("a")[0], save_adapter("b")[0]).adapter_args
    moved = shutil.move(save_adapter("a")[0], tmp_path / "moved.pt")
    assert same_sources(first, fuse(str(moved), save_adapter("b")[0]).adapter_args)
    for others in (["c", "b"], ["b", "a"], ["a"]):
        assert not same_sources(first, fuse(*(save_adapter(name)[0] for name in others)).adapter_args)
    assert not same_sources(first, Namespace())
    older = [{k: v for k, v in source.items() if k != "weights"} for source in json.loads(first.fusion_sources)]
    assert same_sources(first, Namespace(fusion_sources=json.dumps(older)))
    older[0]["options"]["adapter_activation"] = "tanh"
    assert not same_sources(first, Namespace(fusion_sources=json.dumps(older)))
