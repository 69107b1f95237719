"""The statements of `models/demo/data.py` that derive rows from the created jobs."""

from __future__ import annotations

BATCH_SUMS = """
    update batches b set
        succeeded = l.succeeded, failed = l.failed, cancelled = l.cancelled, expired = l.expired,
        prompt_tokens = l.prompt_tokens, completion_tokens = l.completion_tokens,
        cached_tokens = l.cached_tokens, started_at = l.started_at, finished_at = l.finished_at
    from (
        select batch_id, count(*) filter (where state = 'succeeded') as succeeded,
            count(*) filter (where state = 'failed') as failed,
            count(*) filter (where state = 'cancelled') as cancelled,
            count(*) filter (where state = 'expired') as expired,
            coalesce(sum(prompt_tokens) filter (where started_at is not null), 0) as prompt_tokens,
            coalesce(sum(completion_tokens) filter (where started_at is not null), 0)
                as completion_tokens,
            coalesce(sum(cached_tokens) filter (where started_at is not null), 0)
                as cached_tokens,
            min(started_at) as started_at, max(finished_at) as finished_at
        from jobs where batch_id in (select id from demo_batches) group by batch_id
    ) as l
    where l.batch_id = b.id
"""

USAGE = """
    insert into usage (
        job_id, user_id, api_key_id, model, state, prompt_tokens, completion_tokens,
        cached_tokens, duration_ms, created_at
    )
        select j.id, j.user_id, j.api_key_id, j.model, j.state, j.prompt_tokens,
            j.completion_tokens, j.cached_tokens,
            round(extract(epoch from
                j.finished_at - coalesce(j.released_at, j.created_at)) * 1000), j.finished_at
        from jobs j join demo_keys k on k.id = j.api_key_id
        where j.started_at is not null
        order by j.finished_at
"""

ROLL_UP = """
    insert into usage_hourly (
        api_key_id, hour, model, user_id, requests, succeeded,
        prompt_tokens, completion_tokens, cached_tokens, duration_ms, duration_counts
    )
        with buckets as materialized (
            select u.api_key_id, date_trunc('hour', u.created_at, 'UTC') as hour, u.model,
                u.user_id, width_bucket(u.duration_ms, %(bounds)s::bigint[]) as bucket,
                count(*)::int as n, count(*) filter (where u.state = 'succeeded') as succeeded,
                sum(u.prompt_tokens) as prompt_tokens,
                sum(u.completion_tokens) as completion_tokens,
                sum(u.cached_tokens) as cached_tokens, sum(u.duration_ms) as duration_ms
            from usage u join demo_keys k on k.id = u.api_key_id
            group by 1, 2, 3, 4, 5
        ), sums as materialized (
            select api_key_id, hour, model, user_id, sum(n) as requests,
                sum(succeeded) as succeeded, sum(prompt_tokens) as prompt_tokens,
                sum(completion_tokens) as completion_tokens, sum(cached_tokens) as cached_tokens,
                sum(duration_ms) as duration_ms, min(bucket) as low, max(bucket) as high,
                jsonb_object_agg(bucket, n) as counted
            from buckets group by 1, 2, 3, 4
        )
        select api_key_id, hour, model, user_id, requests, succeeded, prompt_tokens,
            completion_tokens, cached_tokens, duration_ms, (
                select ('[' || low || ':' || high || ']={'
                    || string_agg(coalesce(counted ->> b::text, 'NULL'), ',' order by b)
                    || '}')::integer[]
                from generate_series(low, high) as b
            )
        from sums order by hour
"""

LAST_USED = """
    update api_keys k set last_used_at = used.at
    from (
        select j.api_key_id, max(j.created_at) as at
        from jobs j join demo_keys d on d.id = j.api_key_id group by 1
    ) as used
    where k.id = used.api_key_id
"""

WEBHOOKS = """
    create temporary table demo_deliveries on commit drop as
        select pg_temp.id_of(finished_at) as id, user_id, api_key_id, id as job_id,
            state, created_at, finished_at, random() < 0.05 as is_lost
        from jobs
        where batch_id is null and api_key_id in (select id from demo_keys) and random() < 0.01;
    insert into webhook_deliveries (
        id, user_id, api_key_id, job_id, url, event, payload, state, attempts,
        created_at, next_attempt_at, finished_at
    )
        select id, user_id, api_key_id, job_id, 'https://hooks.example.com/jobs', 'job.' || state,
            jsonb_build_object('id', 'gen_' || replace(job_id::text, '-', ''), 'status', state),
            case when is_lost then 'failed' else 'delivered' end,
            case when is_lost then 10 else 1 end, finished_at, finished_at,
            finished_at + interval '1 second'
        from demo_deliveries;
    insert into webhook_attempts (id, delivery_id, at, status, error, duration_ms)
        select pg_temp.id_of(finished_at + n * interval '1 second'), id,
            finished_at + n * interval '1 second', case when is_lost then 503 else 200 end,
            case when is_lost then 'the answer was 503' end, (20 + random() * 300)::int
        from demo_deliveries
        cross join lateral generate_series(1, case when is_lost then 10 else 1 end) as n
"""
