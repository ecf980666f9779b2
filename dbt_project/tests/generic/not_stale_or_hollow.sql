{#-
  The rows are not those of the month before, and no column that had values there, or several, has none or a single one now. What a
  thousand rows settle is settled by them: only what they leave open reads the whole table. Row grain: one finding, in words.
-#}
{% test not_stale_or_hollow(model) %}
{{ config(severity='warn', fail_calc='count(finding)') }}
{%- set before = delivery_before(audited_table(context['model'])) if execute else none -%}
{%- set hollow, may_be_stale = [], false -%}
{%- if before and not before.is_same_file -%}
    {%- set sample = run_query(sampled_sql(model, before)).rows[0] -%}
    {%- set may_be_stale = before.is_same_count and sample[0] == 0 -%}
    {%- for column in before['values'] -%}
        {%- if sample[loop.index] < 2 %}{% do hollow.append(column) %}{% endif -%}
    {%- endfor -%}
{%- endif -%}
{%- set checksum = 'sum(hashint8extended(hash_record_extended(row(' ~ (before.columns if before else []) | join(', ') ~ '), 0), 0)) as checksum' -%}
{%- set counts = [] -%}
{%- for column in hollow %}{% do counts.append('count(distinct ' ~ adapter.quote(column) ~ ')') %}{% endfor %}
select 'every row is as on {{ before.as_of }}' as finding
where {{ 'true' if before and before.is_same_file else 'false' }}
{%- if may_be_stale %}
union all
select 'every row is as on {{ before.as_of }}' as finding
from (select {{ checksum }} from {{ model }}) as delivered
inner join (select {{ checksum }} from {{ before.rows }}) as known on delivered.checksum = known.checksum
{%- endif %}
{%- if hollow %}
union all
select
    columns.name || case delivered.found[columns.position]
        when 0 then ' is empty, and was not on {{ before.as_of }}'
        else ' has a single value, and had more on {{ before.as_of }}'
    end as finding
from (select array[{{ counts | join(', ') }}] as found from {{ model }} having count(*) > 1) as delivered
cross join (select array[{{ counts | join(', ') }}] as found from {{ before.rows }}) as known
cross join unnest(array['{{ hollow | join("', '") }}']) with ordinality as columns (name, position)
where least(delivered.found[columns.position], 2) < least(known.found[columns.position], 2)
{%- endif %}
{% endtest %}
