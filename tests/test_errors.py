import pytest
from sparse_adapter.errors import UsageError, one_line_errors


def test_a_mistake_exits_with_one_line():
    with pytest.raises(SystemExit) as error, one_line_errors():
        raise UsageError("first line\n  second line")
    assert error.value.code == "error: first line second line"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ValueError, match="a bug"), one_line_errors():
        raise ValueError("a bug")
