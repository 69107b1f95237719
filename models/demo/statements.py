"""The statements of `models/demo/data.py`, in order; their parameters are there.

The usage of keys follows a power law: the first hundredth has a third of all jobs. Later days are
busier, and most jobs of a day come between morning and evening, UTC. The end of a job is drawn
first, and its start is computed from that: so the last minute has as many jobs as the others.
"""

from __future__ import annotations

from models.demo.job_effects import BATCH_SUMS, LAST_USED, ROLL_UP, USAGE, WEBHOOKS

#: Functions that PostgreSQL inlines: a real call would cost as much as a row.
_FUNCTIONS = """
    create function pg_temp.id_of(at timestamptz) returns uuid language sql volatile as $$
        select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
            || '7' || substr(gen_random_uuid()::text, 16))::uuid
    $$;
    create function pg_temp.one_of(names text[]) returns text language sql volatile as $$
        select names[1 + floor(random() * cardinality(names))::int]
    $$;
    create function pg_temp.bell() returns double precision language sql volatile as $$
        select (random() + random() + random() + random() - 2) * 1.732
    $$;
    select setseed(0.25)
"""

#: A time within the last days; it may be later today, see `_PAST`.
_MOMENT = """
    date_trunc('milliseconds', date_trunc('day', %(now)s::timestamptz, 'UTC')
        - floor(%(days)s * (1 - power(random(), 0.7))) * interval '1 day'
        + case when random() < 0.3 then random() * 24
               else least(24, greatest(0, 14 + 3.5 * pg_temp.bell())) end * interval '1 hour')
"""
#: The drawn time, or one day earlier if it is in the future.
_PAST = "drawn.at - (drawn.at >= %(now)s)::int * interval '1 day'"

_USERS = """
    create temporary table demo_users on commit drop as
        select n, pg_temp.id_of(at) as id, at
        from (
            select n, date_trunc('milliseconds', %(now)s::timestamptz
                - (%(days)s + 300 * random()) * interval '1 day') as at
            from generate_series(1, %(users)s) as n
        ) as drawn;
    insert into users (id, email, name, password_hash, role, token_version, created_at)
        select id, lower(first || '.' || last) || '.' || taken + n || '@' || domain,
            first || ' ' || last, %(password_hash)s,
            case when n %% 2500 = 7 then 'admin' else 'customer' end, 0, at
        from (
            select *, pg_temp.one_of(array['Ada','Alan','Barbara','Claude','Dana','Edsger','Fei',
                    'Grace','Hedy','Ivan','Jean','Katherine','Leslie','Margaret','Niklaus','Olga',
                    'Peter','Radia','Shafi','Tim','Ursula','Vint','Wei','Yukihiro']) as first,
                pg_temp.one_of(array['Adams','Baker','Chen','Diaz','Eriksen','Fischer','Garcia',
                    'Haddad','Ito','Jensen','Kumar','Larsen','Moreau','Novak','Okafor','Petrov',
                    'Quinn','Rossi','Sato','Torres','Usman','Vogel','Weber','Yilmaz']) as last,
                pg_temp.one_of(array['example.com','example.org','example.net','mail.example.com',
                    'lab.example.org','studio.example.net']) as domain
            from demo_users
        ) as named, (select count(*) as taken from users) as before
"""

_KEYS = """
    create temporary table demo_keys on commit drop as
        select drawn.n, pg_temp.id_of(drawn.at) as id,
            u.id as user_id, drawn.at, random() as fate
        from (
            select n, case when n <= %(users)s then n
                    else 1 + floor(%(users)s * power(random(), 2))::int end as owner,
                date_trunc('milliseconds', %(now)s::timestamptz
                    - (%(days)s + 200 * random()) * interval '1 day') as at
            from generate_series(1, %(keys)s) as n
        ) as drawn join demo_users u on u.n = drawn.owner;
    create unique index on demo_keys (n);
    analyze demo_keys;
    insert into api_keys (
        id, user_id, name, public_id, secret_hash, rate_limit, token_limit, monthly_token_limit,
        max_in_flight, priority, is_active, expires_at, created_at, deleted_at
    )
        select id, user_id, pg_temp.one_of(array['production','staging','ci','laptop','notebook',
                'editor','batch','review bot','docs','research']) || ' ' || n,
            substr(md5('public' || n || %(now)s), 1, 12),
            md5('a' || random()) || md5('b' || random()),
            (array[60, 60, 60, 120, 300, 600])[1 + floor(random() * 6)::int],
            case when random() < 0.3 then 100000 end,
            case when random() < 0.3 then 50000000 end,
            case when random() < 0.2 then 32 end,
            case when random() < 0.05 then 10 else 1 end,
            fate >= 0.07,
            case when fate between 0.07 and 0.1
                    then %(now)s::timestamptz - random() * interval '20 days'
                when fate > 0.8 then %(now)s::timestamptz + random() * interval '300 days' end,
            at, case when fate < 0.02 then %(now)s::timestamptz - random() * interval '9 days' end
        from demo_keys
"""

_BATCHES = f"""
    create temporary table demo_batches on commit drop as
        select drawn.n, pg_temp.id_of(drawn.at) as id,
            k.id as api_key_id, k.user_id, drawn.at, drawn.fate,
            greatest(1, floor(%(lines)s * power(drawn.n::float8, -0.7)
                / (select sum(power(m::float8, -0.7)) from generate_series(1, %(batches)s) as m)
            )::int) as total
        from (
            select n, 1 + floor(%(keys)s * power(random(), 4))::int as key_n, random() as fate,
                {_MOMENT} - interval '1 day' as at
            from generate_series(1, %(batches)s) as n
        ) as drawn join demo_keys k on k.n = drawn.key_n;
    insert into batches (
        id, user_id, api_key_id, name, endpoint, state, model, on_error, total,
        succeeded, failed, cancelled, expired, prompt_tokens, completion_tokens, cached_tokens,
        request_id, created_at, started_at, finished_at, expires_at
    )
        select id, user_id, api_key_id,
            pg_temp.one_of(array['nightly review','tests','translations','docstrings',null]),
            pg_temp.one_of(array['/v1/chat/completions',null]),
            case when fate < 0.94 then 'completed' when fate < 0.98 then 'cancelled'
                else 'expired' end,
            %(model)s, 'reject', total, 0, 0, 0, 0, 0, 0, 0,
            'req_' || replace(id::text, '-', ''), at, at, at, at + interval '1 day'
        from demo_batches
"""

#: The columns of jobs and batch lines.
_COLUMNS = """
    id, user_id, api_key_id, queue, state, priority, model, request, choices, error,
    prompt_tokens, completion_tokens, cached_tokens, charged_tokens, batch_id, line, custom_id,
    released_at, is_streamed, attempt, worker_id, request_id,
    created_at, started_at, first_token_at, finished_at
"""


def _outcome(kind: str, ended: str, began: str) -> str:
    """Return the select list of `_COLUMNS` after the ids, over rows named `made`."""
    return f"""
        {kind}, state, 1, %(model)s,
        jsonb_build_object('prompt', 'Write a function that sorts ' || n || ' records by name.',
            'maxTokens', 500),
        case when state = 'succeeded' then jsonb_build_array(jsonb_build_object('index', 0,
            'text', 'def sort_records(records):' || chr(10) || '    return sorted(records)',
            'finish_reason', case when fate < 0.8 then 'stop' else 'length' end)) end,
        case when state = 'failed' then jsonb_build_object(
            'code', case when fate < 0.97 then 'engine_failed' else 'worker_lost' end,
            'message', 'the model failed at this request') end,
        prompt_tokens,
        case when not has_begun or state = 'failed' then 0 else completion_tokens end,
        case when has_begun and fate < 0.2 then prompt_tokens / 2 else 0 end,
        prompt_tokens + 500, batch_id, line, custom_id, released_at, fate < 0.4,
        case when not has_begun then 0 when fate between 0.5 and 0.51 then 2 else 1 end,
        case when has_begun then 'demo-' || n %% 4 end,
        'req_' || md5(n::text),
        created_at, case when has_begun then {began} end,
        case when has_begun and state <> 'failed' then {began} + interval '120 milliseconds' end,
        {ended}
    """


_STATE = """
    case when fate < 0.955 then 'succeeded' when fate < 0.98 then 'failed'
        when fate < 0.995 then 'cancelled' else 'expired' end as state, fate < 0.99 as has_begun,
    least(30000, exp(5.2 + 1.1 * pg_temp.bell()))::int as prompt_tokens,
    least(2000, exp(4.8 + 0.9 * pg_temp.bell()))::int as completion_tokens
"""

_JOBS = f"""
    insert into jobs ({_COLUMNS})
        select pg_temp.id_of(created_at), user_id, api_key_id,
            {_outcome("'interactive'", "ended_at", "ended_at - run")}
        from (
            select *, ended_at - run - wait as created_at, null::uuid as batch_id,
                null::int as line, null as custom_id, null::timestamptz as released_at
            from (
                select *, (200 + completion_tokens * (18 + 10 * random()))::int
                        * interval '1 millisecond' as run,
                    least(20000, exp(3.5 + 1.4 * pg_temp.bell()))::int
                        * interval '1 millisecond' as wait
                from (
                    select drawn.n, k.id as api_key_id, k.user_id, drawn.fate,
                        {_PAST} as ended_at, {_STATE.replace("fate", "drawn.fate")}
                    from (
                        select n, 1 + floor(%(keys)s * power(random(), 4))::int as key_n,
                            random() as fate, {_MOMENT} as at
                        from generate_series(1, %(jobs)s) as n
                    ) as drawn join demo_keys k on k.n = drawn.key_n
                    offset 0
                ) as used
                offset 0
            ) as timed
        ) as made
        order by created_at
"""

#: Lines start one after the other. If a batch was cut short, its last lines never start.
_LINES = f"""
    insert into jobs ({_COLUMNS})
        select pg_temp.id_of(created_at), user_id, api_key_id,
            {
    _outcome(
        "'bulk'",
        "case when has_begun then released_at + run else cut_at end",
        "released_at + interval '40 milliseconds'",
    )
}
        from (
            select n, user_id, api_key_id, batch_id, line, custom_id, created_at, fate,
                prompt_tokens, completion_tokens, cut_at,
                case when is_cut then ending else state end as state,
                has_begun and not is_cut as has_begun,
                case when has_begun and not is_cut then released_at end as released_at,
                (400 + completion_tokens * 20) * interval '1 millisecond' as run
            from (
                select line + b.n * 100000 as n, b.user_id, b.api_key_id, b.id as batch_id, line,
                    'line-' || line as custom_id, b.at as created_at, drawn.fate,
                    b.at + line * interval '250 milliseconds' as released_at,
                    b.at + (b.total * 250 + 90000) * interval '1 millisecond' as cut_at,
                    b.fate >= 0.94 and line > b.total * 0.6 as is_cut,
                    case when b.fate < 0.98 then 'cancelled' else 'expired' end as ending,
                    {_STATE.replace("fate", "drawn.fate")}
                from demo_batches b
                cross join lateral (
                    select line, random() as fate from generate_series(1, b.total) as line
                ) as drawn
                offset 0
            ) as laid_down
        ) as made
"""

_ACTIVITY = f"""
    insert into audit_log (id, at, actor_id, action, target_id, address, details)
        select pg_temp.id_of(drawn.at), drawn.at,
            case when action <> 'auth.login_failed' then u.id end, action,
            case when action like 'key.%%' then k.id else u.id end,
            '192.0.2.' || drawn.n %% 250,
            case when action = 'key.update' then jsonb_build_object('isActive',
                jsonb_build_object('from', true, 'to', false)) else '{{}}' end
        from (
            select n, key_n, action, {_PAST} as at from (
            select n, 1 + floor(%(keys)s * power(random(), 2))::int as key_n, {_MOMENT} as at,
                pg_temp.one_of(array['key.create','key.create','key.update','key.update',
                    'key.rotate','key.delete','user.register','user.update',
                    'user.change_password','auth.login_failed','webhook.resend']) as action
            from generate_series(1, %(audit_entries)s) as n
            ) as drawn
        ) as drawn
        join demo_keys k on k.n = drawn.key_n join demo_users u on u.id = k.user_id
        order by drawn.at
"""

ALL = (
    _FUNCTIONS,
    _USERS,
    _KEYS,
    _BATCHES,
    _JOBS,
    _LINES,
    BATCH_SUMS,
    USAGE,
    ROLL_UP,
    LAST_USED,
    WEBHOOKS,
    _ACTIVITY,
)
