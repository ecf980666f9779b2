{#-
  Pre-hook of every model that writes: refuses runs that leave rows out, and makes sure that nobody lands a month until its transaction
  ends. A run by hand shares the run lock for that; the run of an ingest asks whether its ingest still holds it. A lock on the table
  comes after it: whoever waits for a table is known to be under way.
-#}
{% macro begin_step() %}
    {%- if execute -%}
        {%- do streamflow.require_all_rows() -%}
        {%- set lock = run_query(streamflow.share_run_lock_sql()).rows[0] -%}
        {%- if not lock.is_shared -%}
            {{ exceptions.raise_compiler_error(
                "the ingest that began this run has lost its connection to the database, and its lock with it" if lock.is_of_ingest
                else "an ingest or a check is under way on this database (`streamflow status` names it): run dbt when it has ended"
            ) }}
        {%- endif -%}
        {%- if lock.isolation != 'read committed' -%}
            {{ exceptions.raise_compiler_error(
                "this session is " ~ lock.isolation ~ ", and would miss what other sessions write: take `role` from the profiles.yml that streamflow wrote"
            ) }}
        {%- endif -%}
        {%- do streamflow.require_settled_cluster() -%}
    {%- endif -%}
{% endmacro %}


{#-
  Row grain: one row. is_of_ingest: whether an ingest began this run; is_shared: whether the lock lets it go on. The settings let the
  transaction sort and hash a million customers in memory, up to a limit that a small server can give; a server set to more keeps its
  own. Compiling a statement to machine code costs more than it saves in statements that run once.
-#}
{% macro share_run_lock_sql() %}
    select
        runs.lock_holder is not null as is_of_ingest,
        case
            when runs.lock_holder is null then pg_try_advisory_xact_lock_shared({{ streamflow.run_lock() }})
            else exists (
                select 1 from pg_locks
                where (locktype, mode, pid, granted) = ('advisory', 'ExclusiveLock', runs.lock_holder, true)
                    and (classid::int, objid::int) = ({{ streamflow.run_lock() }})
                    and database = (select oid from pg_database where datname = current_database())
            )
        end as is_shared,
        current_setting('transaction_isolation') as isolation,
        set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')), 64 << 20)::bigint / 1024 || 'kB', true),
        set_config(
            'maintenance_work_mem',
            greatest(pg_size_bytes(current_setting('maintenance_work_mem')), 256 << 20)::bigint / 1024 || 'kB', true
        ),
        set_config('jit', 'off', true)
    from ops.runs as runs
    where runs.invocation_id = '{{ invocation_id }}'
{% endmacro %}


{% macro require_all_rows() %}
    {%- if invocation_args_dict.get('empty') or invocation_args_dict.get('sample') -%}
        {{ exceptions.raise_compiler_error(
            "nothing is written from rows that are left out: run dbt without --empty and --sample"
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Whether two relations have the same row by its key, a list of quoted columns. -#}
{% macro same_row(left, right, key) -%}
    {%- for column in key %}{{ left }}.{{ column }} = {{ right }}.{{ column }}{{ ' and ' if not loop.last }}{% endfor -%}
{%- endmacro %}


{#- Names, one or a list, as quoted identifiers. -#}
{% macro quoted(names) %}
    {%- set found = [] -%}
    {%- for name in ([names] if names is string else names) %}{% do found.append(adapter.quote(name)) %}{% endfor -%}
    {{ return(found) }}
{% endmacro %}
