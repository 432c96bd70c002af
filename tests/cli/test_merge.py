"""sparse-adapter merge: when the result needs no plugin."""

import pytest
from sparse_adapter.cli.merge import stock_exists


@pytest.mark.parametrize(
    "arch, task, expected",
    [
        ("bart_mini", "translation", True),
        ("transformer_iwslt_de_en", "translation", True),
        ("mbart_large", "translation_from_pretrained_bart", True),
        ("roberta_base", "sentence_prediction", True),
        ("roberta_base", "squad", False),
        ("bert_base", "sentence_prediction", False),  # fairseq's bert_base is another model
    ],
)
def test_fairseq_has_no_bert_and_no_squad(arch, task, expected):
    assert stock_exists({"arch": f"sparse_adapter_{arch}"}, {"_name": f"sparse_adapter_{task}"}) is expected
