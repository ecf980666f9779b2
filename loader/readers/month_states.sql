-- name: months
with attempts as (
    select distinct on (as_of)
        *,
        count(*) over (partition by as_of) as attempts
    from ops.loads
    order by as_of asc, load_id desc
),

published as (
    select distinct on (published.as_of)
        published.as_of,
        published.load_id,
        published.month,
        published.published_at,
        loads.files,
        loads.versions
    from ops.published as published
    inner join ops.loads as loads on published.load_id = loads.load_id
    order by published.as_of asc, published.load_id desc
),

verdicts as (
    select
        load_id,
        count(*) filter (where status = 'pass') as passed,
        count(*) filter (where status = 'warn') as warned,
        count(*) filter (where status = 'fail') as failed,
        jsonb_agg(
            jsonb_build_object(
                'audit', audit_name, 'table', table_name, 'column', column_name, 'failures', failures, 'finding', finding
            )
            order by audit_name
        ) filter (where status = 'warn') as warnings
    from ops.audits
    group by load_id
)

select
    coalesce(published.month, attempts.month) as month,
    attempts.as_of,
    case
        when attempts.as_of in (
            select history.as_of from ops.history as history
            where history.load_id not in (select every.load_id from ops.published as every)
        ) then 'not finished'
        when published.load_id is not null then 'published'
        else attempts.state
    end as state,
    attempts.as_of in (
        select whole.as_of from ops.complete_loads as whole
        where whole.load_id not in (select every.load_id from ops.published as every)
    ) as whole,
    attempts.as_of in (
        select history.as_of from ops.history as history
        where history.merged_at is null and history.rows_inserted is not null
    ) as production_lags,
    attempts.load_id = (select max(staged.load_id) from ops.staged as staged) as is_staged,
    attempts.state = 'landed' and attempts.load_id is distinct from (select max(staged.load_id) from ops.staged as staged) as was_displaced,
    -- dbt by hand may have published what was landed, and a later month what an attempt left
    case
        when attempts.load_id = published.load_id and (
            attempts.state = 'landed'
            or exists (select from ops.loads as later where later.load_id > attempts.load_id and later.state = 'published')
        ) then 'published'
        else attempts.state
    end as last_attempt,
    attempts.command,
    attempts.attempts,
    published.published_at,
    attempts.data_dir,
    attempts.restates,
    attempts.load_id in (select waivers.load_id from ops.waivers as waivers) as waives,
    attempts.error,
    attempts.failed_nodes,
    coalesce(verdicts.passed, 0) as audits_passed,
    coalesce(verdicts.warned, 0) as audits_warned,
    coalesce(verdicts.failed, 0) as audits_failed,
    coalesce(verdicts.warnings, '[]') as warnings,
    array(
        select jsonb_build_object('audit', audit_name, 'by', waived_by, 'at', waived_at, 'reason', reason)
        from ops.waivers as waivers
        where waivers.load_id = coalesce(published.load_id, attempts.load_id)
        order by waivers.audit_name
    ) as waivers,
    coalesce(published.versions, attempts.versions) as versions,
    coalesce(published.files, attempts.files) as files,
    (select min(archived.folder) from ops.archived as archived where archived.as_of = attempts.as_of) as archived_in,
    array(
        select
            jsonb_build_object(
                'table', history.table_name,
                'delivered', history.rows_delivered,
                'inserted', changed.inserted,
                'updated', changed.updated,
                'unchanged', history.rows_delivered - changed.inserted - changed.updated,
                'carried_forward', history.rows_total - history.rows_delivered
            )
        from ops.history as history
        cross join lateral (
            -- a table whose file a restatement did not change keeps its older load, and counts no changes
            select
                case when history.load_id = published.load_id then history.rows_inserted else 0 end as inserted,
                case when history.load_id = published.load_id then history.rows_updated else 0 end as updated
        ) as changed
        where history.as_of = attempts.as_of and published.load_id is not null
        order by history.table_name
    ) as counts,
    (select max(restatements.restated_at) from ops.restatements as restatements where restatements.as_of = attempts.as_of) as restated_at,
    array(
        select distinct restatements.as_of::text
        from ops.restatements as restatements
        inner join ops.history as history on restatements.table_name = history.table_name
        where
            history.as_of = attempts.as_of
            and restatements.as_of < attempts.as_of
            and history.built_at < restatements.restated_at
            and history.built_at > (restatements.replaced ->> 'built_at')::timestamptz
        order by 1
    ) as built_on_replaced
from attempts
left join published on attempts.as_of = published.as_of
left join verdicts on verdicts.load_id = coalesce(published.load_id, attempts.load_id)
order by attempts.as_of;
