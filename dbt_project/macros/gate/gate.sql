{#-
  Stops the run unless every error-level audit that the project declares has run on the load in staging and passed, and
  staging still holds every row that was landed. A run that leaves audits out, or `dbt run`, which runs none, ends here.
  The gate's pre-hook: whatever builds the gate, asks.
-#}
{% macro require_passed_audits() %}
    {%- if execute -%}
        {%- if invocation_args_dict.get('empty') or invocation_args_dict.get('sample') -%}
            {{ exceptions.raise_compiler_error("the gate stays closed: --empty and --sample audit rows that are not there") }}
        {%- endif -%}
        {%- do hold_run_lock() -%}
        {%- do run_missing_audits() -%}
        {%- set missing = run_query(missing_audits_sql()).rows -%}
        {%- if missing -%}
            {{ exceptions.raise_compiler_error(
                "the gate stays closed for month " ~ missing[0][0] ~ ": " ~ missing | map(attribute=1) | join('; ')
                ~ ". Nothing below it was built. Run `dbt build` with all audits, or `streamflow ingest " ~ missing[0][0] ~ "`."
            ) }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- One row per reason why the staged load may not pass: month, reason. No row where nothing is staged for publishing. -#}
{% macro missing_audits_sql() %}
with load as (
    select loads.load_id, loads.month
    from {{ source('ops', 'loads') }} as loads
    where loads.load_id = {{ publishable_load() }}
),

required (audit_id, audit_name) as (
    select * from (values {% for audit in audits('error') -%}
        ('{{ audit.unique_id }}', '{{ audit.name }}'){{ ', ' if not loop.last }}
    {%- else %}(null::text, null::text){% endfor %}) as audit where column1 is not null
),

landed (table_name, row_count, in_one_go) as (
    {%- for table_name in declared_tables() %}
    select '{{ table_name }}', rows_of.row_count, rows_of.in_one_go
    from (
        {{ on_engine('landed')(source('staging', table_name)) }}
    ) as rows_of
    inner join load on true
    {%- if not loop.last %} union all{% endif %}
    {%- endfor %}
)

select load.month, 'audit ' || required.audit_name || case when audits.status is null then ' has not run' else ' did not pass' end
from load
cross join required
left join {{ source('ops', 'audits') }} as audits on audits.load_id = load.load_id and audits.audit_id = required.audit_id
where audits.status is null or audits.status = 'fail'
union all
select load.month, 'staging.' || landed.table_name || ' does not hold the rows that were landed: they were changed since, or the server lost them'
from load
cross join landed
left join {{ source('ops', 'staged') }} as staged on staged.table_name = landed.table_name
where staged.row_count is distinct from landed.row_count or not landed.in_one_go
{% endmacro %}


{#- The load that staging holds, unless it was landed for a check only, has been refused, or is published already. -#}
{% macro publishable_load() -%}
    (
        select max(in_staging.load_id)
        from {{ source('ops', 'staged') }} as in_staging
        inner join {{ source('ops', 'loads') }} as loads on in_staging.load_id = loads.load_id
        where loads.command = 'ingest' and loads.state not in ('refused', 'published')
    )
{%- endmacro %}

