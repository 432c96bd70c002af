"""Learning curves from the two formats of fairseq's log."""

from sparse_adapter.study.curves import learning_curve

SIMPLE = """\
2026-11-21 09:22:59 | INFO | fairseq_cli.train | begin validation on "valid" subset
2026-11-21 09:23:06 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 0.982 | accuracy 60 | mcc -1.5 | wps 0 \
| wpb 61 | bsz 5 | num_updates 10
2026-11-21 09:23:06 | INFO | valid1 | epoch 001 | valid on 'valid1' subset | loss 9 | num_updates 10
2026-11-21 09:23:06 | INFO | train | epoch 001 | loss 1.021 | num_updates 10
2026-11-21 09:24:06 | INFO | valid | epoch 002 | valid on 'valid' subset | loss 0.9 | mcc 7 | num_updates 20 \
| best_loss 0.9
"""
JSON = """\
2026-11-21 | INFO | valid | {"epoch": 1, "valid_loss": "0.982", "valid_mcc": "-1.5", "valid_wps": "0", "valid_num_updates": "10"}
2026-11-21 | INFO | valid | {"epoch": 2, "valid_loss": "0.9", "valid_mcc": "7", "valid_num_updates": "20", "valid_best_
"""  # noqa: E501


def test_simple():
    first = {"epoch": 1, "update": 10, "loss": 0.982, "accuracy": 60, "mcc": -1.5}
    assert learning_curve(SIMPLE) == [first, {"epoch": 2, "update": 20, "loss": 0.9, "mcc": 7}]


def test_json_and_a_line_that_was_cut_off():
    assert learning_curve(JSON) == [{"epoch": 1, "update": 10, "loss": 0.982, "mcc": -1.5}]


def test_of_a_validation_that_was_repeated_the_last_counts():
    again = SIMPLE + SIMPLE.splitlines()[1].replace("loss 0.982", "loss 0.5") + "\n"
    assert [(point["update"], point["loss"]) for point in learning_curve(again)] == [(10, 0.5), (20, 0.9)]


def test_no_validation():
    assert learning_curve("") == []
