"""The pinned library has every semi-private name that the engine relies on.

After an upgrade of the library, run these tests first: a failure names the code to check.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import transformers
import transformers.modeling_flash_attention_utils as flash_utils
from transformers.generation.continuous_batching import cache as cache_module
from transformers.generation.continuous_batching import cache_allocators
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchingManager,
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.distributed import DistributedHelper
from transformers.generation.continuous_batching.input_outputs import ContinuousBatchingIOs
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.continuous_batching.offloading_manager import OffloadingManager
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus
from transformers.generation.continuous_batching.scheduler import (
    SCHEDULER_MAPPING,
    FIFOScheduler,
    Scheduler,
)

from tests.support.engine.running_engine import running

PINNED = "5.23.0"


def test_the_library_has_the_pinned_version() -> None:
    assert transformers.__version__ == PINNED


@pytest.mark.parametrize(
    ("owner", "method", "parameters"),
    [
        (OutputRouter, "deliver", ["output"]),
        (OutputRouter, "deliver_batch", ["outputs"]),
        (OutputRouter, "fail_and_deliver", ["state", "error"]),
        (Scheduler, "schedule_batch", ["token_budget", "cache_budget"]),
        (Scheduler, "clear_cancelled_requests", []),
        (Scheduler, "add_waiting_request", ["state"]),
        (Scheduler, "finish_request", ["request_id"]),
        (Scheduler, "_try_to_meet_safety_margin", []),
        (Scheduler, "_infer_request_tokens", ["state", "request_ids_to_remove_from_waiting"]),
        (
            Scheduler,
            "_schedule_request",
            ["state", "request_tokens", "token_budget", "request_ids_to_remove_from_waiting"],
        ),
        (
            Scheduler,
            "_process_candidates",
            ["candidates", "token_budget", "cache_budget", "request_ids_to_remove_from_waiting"],
        ),
        (FIFOScheduler, "_cleanup_waiting_queue", ["request_ids_to_remove_from_waiting"]),
        (RequestState, "to_generation_output", []),
        (RequestState, "create_equivalent_initial_request", []),
        (ContinuousBatchingManager, "warmup", []),
        (ContinuousBatchingManager, "start", []),
        (ContinuousBatchingManager, "is_running", []),
        (ContinuousBatchingManager, "cancel_request", ["request_id"]),
        (ContinuousBatchingManager, "destroy", []),
        (DistributedHelper, "tp_broadcast_object_from_rank_0", ["obj"]),
        (cache_module.PagedAttentionCache, "search_prefix_match", ["request_id", "prompt_ids"]),
        (cache_module.PagedAttentionCache, "compute_free_capacity", ["relative"]),
        (
            cache_module.PagedAttentionCache,
            "can_store_request_tokens",
            ["state", "request_len", "dry_run"],
        ),
        (cache_allocators.CacheAllocator, "match_prefix_blocks", ["prompt_ids"]),
        (
            cache_allocators.CacheAllocator,
            "mark_complete_blocks",
            ["request_id", "token_ids", "new_new_blocks"],
        ),
        (
            cache_allocators.FullAttentionCacheAllocator,
            "fill_block_table",
            ["request_id", "past_length", "query_length", "block_table"],
        ),
        (
            cache_allocators.FullAttentionCacheAllocator,
            "get_cache_for_block_table",
            ["layer_idx"],
        ),
        (OffloadingManager, "offload_requests", []),
    ],
)
def test_a_method_that_we_call_or_replace_has_its_parameters(
    owner: Any, method: str, parameters: list[str]
) -> None:
    names = list(inspect.signature(getattr(owner, method)).parameters)

    assert names[1:] == parameters


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (ModelRunner._forward_process_and_sample, "self.logit_processor.do_processing"),
        (ModelRunner._forward_process_and_sample, "self.logit_processor(sliced_input_ids_2d"),
        (ModelRunner._sample, "torch.argmax"),
        (ContinuousBatchingIOs.prepare_batch_tensors, "logits_processors.prepare_tensor_args("),
        (ContinuousBatchingIOs._setup_static_tensors, "logit_processor.tensors_required"),
        (ContinuousBatchingIOs._setup_static_tensors, "logit_processor.fill_defaults("),
        (ContinuousBatchProcessor._update_tp_group_state, "self.logit_processor.check_kwargs("),
        (ContinuousBatchProcessor.update_batch, "self.output_router.deliver_batch("),
        (ContinuousBatchProcessor.update_batch, "__child#{i}"),
        (ContinuousBatchProcessor.update_batch, "self.scheduler._requests_to_fork"),
        (ContinuousBatchProcessor.update_batch, "RequestStatus.FINISHED, RequestStatus.PENDING"),
        (ContinuousBatchProcessor.prepare_next_batch, "clear_cancelled_requests()"),
        (ContinuousBatchProcessor._update_tp_group_state, "tp_broadcast_object_from_rank_0"),
        (ContinuousBatchingManager._create_batch_processor, "SCHEDULER_MAPPING.get("),
        (ContinuousBatchingManager._create_batch_processor, "batch_processor.reset()"),
        (ContinuousBatchingManager._create_batch_processor, "output_router=self.output_router"),
        (ContinuousBatchingManager._run_generation_loop, "self._handle_critical_error("),
        (OffloadingManager.offload_requests, "starved.pop()"),
        (cache_module.PagedAttentionCache.__init__, "ATTN_TYPE_TO_ALLOCATOR[attn_type]"),
        (flash_utils.lazy_import_flash_attention, "_lazy_imports("),
        (flash_utils._flash_attention_forward, "flash_kvcache_fn(q, k_cache, v_cache, k, v"),
        (flash_utils._flash_attention_forward, "cu_seqlens_q=cu_seq_lens_q"),
    ],
)
def test_the_library_calls_the_parts_that_we_replace(function: Any, name: str) -> None:
    assert name in inspect.getsource(function)


def test_the_registries_are_plain_dicts() -> None:
    assert type(SCHEDULER_MAPPING) is dict
    assert type(cache_module.ATTN_TYPE_TO_ALLOCATOR) is dict
    assert cache_allocators.FULL_ATTENTION in cache_module.ATTN_TYPE_TO_ALLOCATOR


def test_states_have_the_fields_and_the_order_that_the_engine_relies_on() -> None:
    state = RequestState("x", [1, 2, 3], num_children=2, max_new_tokens=4)

    assert state._status is RequestStatus.PENDING < RequestStatus.FINISHED
    assert state.remaining_prefill_tokens == [1, 2, 3]
    assert state.generated_tokens == [] and state.position_offset == 0
    assert state.num_children == 2


def test_the_manager_and_its_parts_have_the_attributes_that_the_loop_uses(model: Any) -> None:
    with running(model) as (engine, _):
        manager = engine.loop._manager
        assert manager.logit_processor is engine.loop.sampler
        assert manager.output_router is engine.loop.router
        for name in (
            "input_queue",
            "cancel_queue",
            "_wake_up_loop",
            "continuous_batching_config",
            "distributed_helper",
        ):
            assert hasattr(manager, name)
        assert manager.background_thread_status.fatal_error is None
        assert manager.distributed_helper.tp_size == 1 and manager.distributed_helper.is_tp_driver
        scheduler = manager.batch_processor.scheduler
        for name in (
            "active_requests",
            "waiting_requests",
            "waiting_requests_order",
            "block_new_requests",
            "max_requests_per_batch",
            "_cancellation_lock",
            "_requests_to_cancel",
            "_requests_to_fork",
        ):
            assert hasattr(scheduler, name)
        cache = manager.batch_processor.cache
        for name in ("num_blocks", "num_sectors", "bytes_per_sector", "cache_allocators"):
            assert hasattr(cache, name)
        allocator = cache.cache_allocators["full_attention"]
        assert allocator.ledger.cached_blocks == {}
        assert allocator.bytes_per_block and allocator.tokens_per_page
        assert cache.layer_to_allocator[1] is allocator
        k_cache, _ = allocator._kv_token_views[1]
        k_pages, _ = allocator.get_cache_for_block_table(1)
        assert k_cache.data_ptr() == k_pages.data_ptr()
        assert k_cache[allocator.tokens_per_page].data_ptr() == k_pages[1].data_ptr()


def test_the_decode_path_of_a_gpu_runs_on_a_cpu_too(model: Any) -> None:
    with running(model) as (engine, _):
        cache = engine.loop._manager.batch_processor.cache
        assert cache.max_decode_fast_path_length >= engine.context_length
        assert engine.loop._manager.batch_processor.inputs_and_outputs.use_block_table


def test_torch_has_the_errors_that_faults_are_classified_by() -> None:
    assert issubclass(torch.OutOfMemoryError, RuntimeError)
    assert issubclass(torch.AcceleratorError, RuntimeError)
