{#-
  The rows are not those of the month before, and no column that had values there, or several, has none or a single one now. What
  looks_like_month_before can tell is told from a thousand rows; only what it leaves open reads whole tables. Row grain: finding, in words.
-#}
{% test not_stale_or_hollow(model) %}
    {%- do config(severity='warn', fail_calc='count(finding)') -%}
    {%- set table_name = streamflow.audited_table(context['model']) -%}
    {%- set looks = streamflow.looks_like_month_before(table_name, model) if execute else {} -%}
    {%- set known = streamflow.rows_delivered(table_name, "date '" ~ looks.as_of ~ "'") if looks.may_be_same or looks.hollow -%}
    select 'every row is as on {{ looks.as_of }}' as finding
    where {{ looks.is_same_file or false }}
    {%- if looks.may_be_same %}
        or (select {{ streamflow.checksum_of(looks.columns) }} from {{ model }})
        = (select {{ streamflow.checksum_of(looks.columns) }} from {{ known }} as known)
    {%- endif %}
    {%- for column in looks.hollow or [] %}
    union all
    select '{{ column }} ' || case delivered.found
        when 0 then 'is empty, and was not on {{ looks.as_of }}'
        else 'has a single value, and had more on {{ looks.as_of }}'
    end as finding
    from ({{ streamflow.up_to_two_values(column, model) }}) as delivered
    cross join ({{ streamflow.up_to_two_values(column, known) }}) as known
    where delivered.found < known.found and (select count(*) from (select 1 as one from {{ model }} limit 2) as delivery) = 2
    {%- endfor %}
{% endtest %}
