import pytest
from sparse_adapter.modules import is_adapter_key, split_adapter_key


@pytest.mark.parametrize(
    "key, expected",
    [
        ("encoder.layers.0.sparse_adapter.houlsby.ffn.down.weight.values", True),
        ("sparse_adapter.lora", True),
        ("encoder.layers.0.fc1.weight", False),
        ("encoder.my_sparse_adapter_2.weight", False),
    ],
)
def test_adapter_keys(key, expected):
    assert is_adapter_key(key) is expected


def test_parts_of_a_key():
    key = "decoder.layers.11.sparse_adapter.houlsby.encoder_attn.up.weight"
    assert split_adapter_key(key) == ("decoder.layers.11", "houlsby", "encoder_attn", "up.weight")
