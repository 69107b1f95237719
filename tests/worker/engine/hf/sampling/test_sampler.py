"""Each row is sampled by its own request, and greedy rows stay unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from worker.engine.hf.sampling.penalties import PenaltyArgs, PenaltyTable
from worker.engine.hf.sampling.sampler import Sampler
from worker.engine.hf.state.sequence import Sequence, new_state
from worker.engine.protocol import EngineRequest, Handle, Sampling

VOCAB_SIZE = 50
EOS_IDS = (4, 9)


class FutureState:
    """The library's object for one row of the sampler."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.has_new_token = True


def sampler_of(*samplings: Sampling, is_static: bool = False) -> tuple[Sampler, list[FutureState]]:
    """Return a sampler and one row, at the end of its prompt, for each sampling."""
    futures = []
    for number, sampling in enumerate(samplings):
        handle = Handle(EngineRequest(f"r{number}", [1, 2, 3], 20, sampling), lambda *args: None)
        sequence = Sequence(handle, 0, number)
        state = new_state(sequence, f"{number}", eos_ids=EOS_IDS)
        state.position_offset = 3
        futures.append(FutureState(state))
    sampler = Sampler(
        is_live=lambda library_id: True,
        vocab_size=VOCAB_SIZE,
        eos_ids=EOS_IDS,
        max_rows=8,
        device=torch.device("cpu"),
        is_static=is_static,
    )
    return sampler, futures


def process(sampler: Sampler, futures: list[FutureState], scores: torch.Tensor) -> torch.Tensor:
    """Run one step as the library does."""
    storage = torch.zeros(sampler.tensors_required, 32, dtype=torch.int32)
    sampler.fill_defaults(storage)
    sampler.prepare_tensor_args(futures, storage)
    ids = torch.tensor([3] * len(futures), dtype=torch.int32)
    return sampler(ids, scores.clone(), storage[:, : len(futures)])


@pytest.mark.parametrize("is_static", [False, True])
def test_greedy_rows_keep_every_bit_beside_others(is_static: bool) -> None:
    sampler, futures = sampler_of(
        Sampling(),
        Sampling(temperature=1.0, seed=3),
        Sampling(repetition_penalty=1.5),
        Sampling(),
        is_static=is_static,
    )
    scores = torch.randn(4, VOCAB_SIZE)

    out = process(sampler, futures, scores)

    assert torch.equal(out[[0, 3]], scores[[0, 3]])
    assert not torch.equal(out[2], scores[2])


def test_captured_steps_draw_the_tokens_of_other_steps() -> None:
    samplings = [
        Sampling(),
        Sampling(temperature=0.7, seed=1),
        Sampling(temperature=1.0, top_p=0.8, seed=2),
        Sampling(temperature=1.3, top_k=5, seed=3, presence_penalty=0.5),
        Sampling(min_tokens=4),
        Sampling(temperature=1.0, min_p=0.2, repetition_penalty=1.2, seed=4),
    ]
    scores = torch.randn(len(samplings), VOCAB_SIZE) * 2

    eager = process(*sampler_of(*samplings), scores)
    static = process(*sampler_of(*samplings, is_static=True), scores)

    assert torch.equal(eager.argmax(-1), static.argmax(-1))


def test_end_tokens_are_banned_until_min_tokens() -> None:
    sampler, futures = sampler_of(Sampling(min_tokens=2))
    scores = torch.zeros(1, VOCAB_SIZE)
    scores[0, list(EOS_IDS)] = 10.0

    for generated in range(3):
        futures[0].state.position_offset = 3 + generated
        token = int(process(sampler, futures, scores).argmax())
        assert (token in EOS_IDS) == (generated == 2)


def test_logprobs_are_the_models_own_for_any_sampling() -> None:
    sampling = Sampling(temperature=2.0, top_k=3, presence_penalty=1.0, logprobs=2)
    sampler, futures = sampler_of(Sampling(), sampling)
    scores = torch.randn(2, VOCAB_SIZE)

    token = int(process(sampler, futures, scores)[1].argmax())

    expected = scores[1].log_softmax(-1)
    report = sampler.logprob_of("1", token, 2)
    assert report.logprob == pytest.approx(float(expected[token]))
    assert [i for i, _ in report.top] == expected.topk(2).indices.tolist()


def test_penalties_count_generated_tokens_and_mark_those_of_the_prompt() -> None:
    table = PenaltyTable(slots=2, vocab_size=6, device=torch.device("cpu"))
    slot = table.slot("a", prompt=[0, 1], generated=[2, 2], is_fresh=True, in_batch=["a"])
    args = PenaltyArgs(
        slot=torch.tensor([slot]),
        is_generated=torch.tensor([1]),
        repetition=torch.tensor([2.0]),
        presence=torch.tensor([0.5]),
        frequency=torch.tensor([0.25]),
    )

    out = table.apply(torch.tensor([[1.0, -1.0, 4.0, 4.0, 4.0, -3.0]]), torch.tensor([3]), args)

    assert out.tolist() == [[0.5, -2.0, 2 - 0.5 - 0.5, 2 - 0.5 - 0.25, 4.0, -3.0]]


def test_a_full_penalty_table_reuses_the_row_of_a_sequence_outside_the_batch() -> None:
    table = PenaltyTable(slots=1, vocab_size=6, device=torch.device("cpu"))
    first = table.slot("a", prompt=[0], generated=[], is_fresh=True, in_batch=["a"])
    second = table.slot("b", prompt=[1], generated=[], is_fresh=True, in_batch=["b"])

    assert first == second
    assert table.owners() == ["b"]
