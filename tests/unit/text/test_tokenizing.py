from concurrent.futures import ThreadPoolExecutor

from tests.conftest import tiny_base

from maquette.text.tokenizing import tokenize


def test_threads_do_not_change_how_others_pad() -> None:
    tokenizer = tiny_base("sd15").text.text_encoders[0].tokenizer

    def lengths(number: int) -> set[int]:
        padded = {"padding": "max_length", "max_length": 16, "truncation": True} if number % 2 else {}
        return {len(tokenize(tokenizer, "a", **padded).input_ids) for _ in range(300)}

    expected = [lengths(number) for number in range(2)]
    assert expected[0] != expected[1] == {16}
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lengths, range(8))) == expected * 4
