{#-
  The rows are not those of the month before, and no column that had values there, or several, has none or a single one now. What
  delivery_before can tell is told from a thousand rows; only what it leaves open reads whole tables. Row grain: finding, in words.
-#}
{% test not_stale_or_hollow(model) %}
    {%- do config(severity='warn', fail_calc='count(finding)') -%}
    {%- set before = streamflow.delivery_before(streamflow.audited_table(context['model']), model) if execute else {} -%}
    select 'every row is as on {{ before.as_of }}' as finding
    where '{{ before.is_stale }}' = 'yes'
    {%- if before.is_stale == 'perhaps' %}
    union all
    select 'every row is as on {{ before.as_of }}' as finding
    from (select {{ streamflow.checksum_of(before.columns) }} as checksum from {{ model }}) as delivered
    inner join (select {{ streamflow.checksum_of(before.columns) }} as checksum from {{ before.rows }}) as known on delivered.checksum = known.checksum
    {%- endif %}
    {%- if before.hollow %}
    union all
    select
        columns.name || case delivered.found[columns.position]
            when 0 then ' is empty, and was not on {{ before.as_of }}'
            else ' has a single value, and had more on {{ before.as_of }}'
        end as finding
    from (select array[{{ streamflow.distinct_values(before.hollow) }}] as found from {{ model }} having count(*) > 1) as delivered
    cross join (select array[{{ streamflow.distinct_values(before.hollow) }}] as found from {{ before.rows }}) as known
    cross join unnest(array['{{ before.hollow | join("', '") | replace('"', '') }}']) with ordinality as columns (name, position)
    where least(delivered.found[columns.position], 2) < least(known.found[columns.position], 2)
    {%- endif %}
{% endtest %}
